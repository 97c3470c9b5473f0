import assert from 'node:assert/strict';
import { rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeAtomic } from '#host';
import { DecodedFiles } from '../../src/net/store/decoded-files.ts';
import { openedOf } from '../support/opens.ts';
import { tmpDir } from '../support/tmp.ts';

const claim = (text: string) => ({ text, name: 'claim' });
const longAgo = new Date('2020-01-01');

test('a file is read and decoded once, and again when another takes its place, however alike the two are', async (t) => {
  const path = join(tmpDir(t), 'claim');
  const files = new DecodedFiles((text, name) => ({ text, name }));
  assert.equal(await files.read(path), undefined);
  writeFileSync(path, 'one');
  utimesSync(path, longAgo, longAgo);
  assert.deepEqual(await files.read(path), claim('one'));
  const known = await files.read(path);
  assert.deepEqual(await openedOf([path], () => files.read(path)), []);
  assert.equal(await files.read(path), known);
  await writeAtomic(path, 'two', { mode: 0o600 });
  utimesSync(path, longAgo, longAgo);
  assert.deepEqual(await files.read(path), claim('two'));
  rmSync(path);
  assert.equal(await files.read(path), undefined);
});

test('a file that has just changed is read each time', async (t) => {
  const path = join(tmpDir(t), 'claim');
  const files = new DecodedFiles((text, name) => ({ text, name }));
  writeFileSync(path, 'one');
  assert.deepEqual(await files.read(path), claim('one'));
  // As within one tick of the clock: the same file, size and time.
  const { mtime } = statSync(path);
  writeFileSync(path, 'two');
  utimesSync(path, mtime, mtime);
  assert.deepEqual(await files.read(path), claim('two'));
});
