import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findProgram } from '#host';
import { hashOfFiles } from '../../scripts/guests/cache.ts';
import { buildCached } from '../../scripts/guests/cached-build.ts';
import { guestNames, guestPackages, missingPackages } from '../../scripts/guests/images.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const recipes = join(import.meta.dirname, '../../scripts/guests');

test('UDP echo: the kept bytes are what its source assembles to', (t) => {
  const can = findProgram('as') !== undefined && findProgram('ld') !== undefined;
  if (!requireOrSkip(t, can && process.arch === 'x64', 'needs as and ld for x86')) return;
  const folder = tmpDir(t);
  const [object, binary] = [join(folder, 'u.o'), join(folder, 'u')];
  execFileSync('as', ['--64', '-o', object, join(recipes, 'udp-echo.S')]);
  const link = ['-Ttext', '0x400000', '--oformat', 'binary', '-o', binary, object];
  execFileSync('ld', link, { stdio: 'ignore' });
  const kept = readFileSync(join(recipes, 'udp-echo.b64'), 'latin1');
  assert.deepEqual(readFileSync(binary), Buffer.from(kept, 'base64'));
});

test('every script of a guest is one its shell can read', (t) => {
  const bash = findProgram('bash');
  const busybox = findProgram('busybox');
  const both = bash !== undefined && busybox !== undefined;
  if (!requireOrSkip(t, both, 'needs bash and busybox') || !both) return;
  for (const name of readdirSync(recipes).filter((it) => it.endsWith('.sh'))) {
    execFileSync(bash, ['-n', join(recipes, name)]);
  }
  const inside = ['init', ...readdirSync(join(recipes, 'tiny/sbin')).map((it) => `sbin/${it}`)];
  for (const name of inside) execFileSync(busybox, ['sh', '-n', join(recipes, 'tiny', name)]);
});

test('a package is missing when the program it brings is not in the path', (t) => {
  const path = process.env.PATH;
  t.after(() => {
    process.env.PATH = path;
  });
  process.env.PATH = '/nowhere';
  for (const name of guestNames) {
    const missing = missingPackages(name);
    assert.ok(missing.every((it) => guestPackages[name].includes(it)));
  }
  assert.deepEqual(missingPackages('sector'), []);
});

test('the name of a built guest changes with any file it is made from', (t) => {
  const folder = tmpDir(t);
  mkdirSync(join(folder, 'a/b'), { recursive: true });
  writeFileSync(join(folder, 'a/b/x'), '1');
  writeFileSync(join(folder, 'y'), '1');
  const parts = [join(folder, 'a'), join(folder, 'y')];
  const before = hashOfFiles(parts);
  assert.equal(hashOfFiles(parts), before);
  writeFileSync(join(folder, 'a/b/x'), '2');
  assert.notEqual(hashOfFiles(parts), before);
  writeFileSync(join(folder, 'a/b/x'), '1');
  assert.equal(hashOfFiles(parts), before);
});

test('two guests of one recipe are built at the same time, each once', async (t) => {
  const root = tmpDir(t);
  const home = process.env.XDG_CACHE_HOME;
  t.after(() => {
    if (home === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = home;
  });
  process.env.XDG_CACHE_HOME = root;
  const recipe = join(root, 'recipe.sh');
  // Each ends only when the other one has begun.
  const wait = 'for _ in $(seq 200); do [ -e "$2/$4" ] && exit 0; sleep 0.05; done; exit 1';
  writeFileSync(recipe, `#!/bin/sh\necho "$3" >> "$2/$3"\n${wait}\n`, { mode: 0o755 });
  const build = (own: string, other: string): Promise<void> =>
    buildCached(
      own,
      { folder: join(root, `of-${own}`), recipe, args: [root, own, other] },
      () => {},
    );
  await Promise.all([build('a', 'b'), build('b', 'a'), build('a', 'b')]);
  for (const name of ['a', 'b']) assert.equal(readFileSync(join(root, name), 'utf8'), `${name}\n`);
});
