import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { writeIso } from '#cloudinit';
import { CloudInitError } from '../../src/cloudinit/error.ts';
import { requireOrSkip } from '../support/require.ts';
import { readDisc } from './iso-reader.ts';

const label = 'cidata';
const has = (program: string): boolean =>
  spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;

const seed = new Map([
  ['meta-data', Buffer.from('{}\n')],
  ['user-data', Buffer.alloc(0)],
  ['vendor-data', Buffer.alloc(2048, 'v')],
  ['network-config', Buffer.alloc(5000, 'n')],
]);

const fileName = fc
  .stringMatching(/^[A-Za-z0-9._-]{1,64}$/)
  .filter((name) => !/^\.{1,2}$/.test(name));
const content = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.constantFrom(0, 1, 2047, 2048, 2049, 4096).map((length) => new Uint8Array(length).fill(7)),
);
const files = fc
  .array(fc.tuple(fileName, content), { maxLength: 60 })
  .map((entries) => new Map(entries));

function withFolder<T>(run: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'iso-'));
  try {
    return run(folder);
  } finally {
    // The image's root is read-only, and so is what is extracted from it.
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) chmodSync(join(folder, entry.name), 0o700);
    }
    rmSync(folder, { recursive: true, force: true });
  }
}

function extract(image: Uint8Array, folder: string): Map<string, Buffer> {
  writeFileSync(join(folder, 'image'), image);
  const target = join(folder, 'out');
  const options = ['-abort_on', 'WARNING', '-osirrox', 'on', '-indev', join(folder, 'image')];
  execFileSync('xorriso', [...options, '-extract', '/', target], { stdio: 'pipe' });
  return new Map(readdirSync(target).map((name) => [name, readFileSync(join(target, name))]));
}

const plain = (map: ReadonlyMap<string, Uint8Array>): Record<string, string> =>
  Object.fromEntries(
    [...map].sort().map(([name, bytes]) => [name, Buffer.from(bytes).toString('hex')]),
  );

test('V-56: any files come back from the image, by Rock Ridge and by Joliet', () => {
  fc.assert(
    fc.property(files, (given) => {
      const image = writeIso(given, { label });
      assert.equal(image.length % 2048, 0);
      for (const tree of ['rock-ridge', 'joliet'] as const) {
        const disc = readDisc(image, tree);
        assert.equal(disc.label, label);
        assert.equal(disc.sectors * 2048, image.length);
        assert.deepEqual(plain(disc.files), plain(given));
      }
    }),
    { numRuns: 200 },
  );
});

test('records are in order, and short names are 8.3 and all different', () => {
  fc.assert(
    fc.property(files, (given) => {
      const { identifiers } = readDisc(writeIso(given, { label }), 'rock-ridge');
      assert.deepEqual(identifiers, identifiers.toSorted());
      assert.equal(new Set(identifiers).size, given.size);
      for (const name of identifiers) assert.match(name, /^[A-Z0-9_]{1,8}\.[A-Z0-9_]{0,3};1$/);
      const joliet = readDisc(writeIso(given, { label }), 'joliet').identifiers;
      assert.deepEqual(joliet, joliet.toSorted());
    }),
  );
});

test('a folder of several sectors: two hundred names that are alike', () => {
  const given = new Map(
    Array.from({ length: 200 }, (_, index) => [`network-config-${index}`, Buffer.from([index])]),
  );
  const disc = readDisc(writeIso(given, { label }), 'rock-ridge');
  assert.equal(new Set(disc.identifiers).size, 200);
  assert.deepEqual(plain(disc.files), plain(given));
});

test('the same files give the same bytes, in whatever order they come', () => {
  const image = writeIso(seed, { label });
  assert.deepEqual(image, writeIso(new Map([...seed].reverse()), { label }));
  assert.deepEqual(image, writeIso(seed, { label }));
});

test('an image without files, and one with nothing but empty files, is still one', () => {
  assert.equal(readDisc(writeIso(new Map(), { label }), 'joliet').files.size, 0);
  const empty = new Map([['user-data', Buffer.alloc(0)]]);
  assert.deepEqual(plain(readDisc(writeIso(empty, { label }), 'joliet').files), plain(empty));
});

test('names and labels that an image cannot hold are refused', () => {
  for (const name of ['', '.', '..', 'a/b', 'ä', 'x'.repeat(65), 'a b', 'a\0']) {
    assert.throws(
      () => writeIso(new Map([[name, Buffer.alloc(0)]]), { label }),
      (error) => error instanceof CloudInitError,
    );
  }
  for (const bad of ['x'.repeat(17), 'ä', 'a\n']) {
    assert.throws(() => writeIso(seed, { label: bad }), CloudInitError);
  }
});

test('V-56: blkid sees an ISO 9660 volume called cidata', (t) => {
  if (!requireOrSkip(t, has('blkid'), 'blkid is not installed')) return;
  withFolder((folder) => {
    writeFileSync(join(folder, 'image'), writeIso(seed, { label }));
    const found = execFileSync('blkid', ['-p', '-o', 'export', join(folder, 'image')], {
      encoding: 'utf8',
    });
    assert.match(found, /^LABEL=cidata$/m);
    assert.match(found, /^TYPE=iso9660$/m);
  });
});

test('V-56: xorriso finds Rock Ridge and Joliet and restores every file without a warning', (t) => {
  if (!requireOrSkip(t, has('xorriso'), 'xorriso is not installed')) return;
  withFolder((folder) => {
    const image = join(folder, 'image');
    writeFileSync(image, writeIso(seed, { label }));
    const { stdout } = spawnSync('xorriso', ['-indev', image, '-toc'], { encoding: 'utf8' });
    assert.match(stdout, /ISO offers {3}: Rock_Ridge Joliet/);
    assert.deepEqual(plain(extract(writeIso(seed, { label }), folder)), plain(seed));
  });
  fc.assert(
    fc.property(files, (given) => {
      withFolder((folder) =>
        assert.deepEqual(plain(extract(writeIso(given, { label }), folder)), plain(given)),
      );
    }),
    { numRuns: 5 },
  );
});

test('a file of several MiB goes through xorriso', (t) => {
  if (!requireOrSkip(t, has('xorriso'), 'xorriso is not installed')) return;
  const big = new Map([
    ['big', Buffer.from(Array.from({ length: 3 * 1024 * 1024 + 1 }, (_, i) => (i * 7) % 251))],
    ['small', Buffer.from('s')],
  ]);
  withFolder((folder) => {
    const found = extract(writeIso(big, { label }), folder);
    assert.ok(big.get('big')?.equals(found.get('big') ?? Buffer.alloc(0)));
    assert.equal(String(found.get('small')), 's');
  });
});
