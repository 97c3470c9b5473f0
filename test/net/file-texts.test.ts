import assert from 'node:assert/strict';
import { rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeAtomic } from '#host';
import { FileTexts } from '../../src/net/store/file-texts.ts';
import { openedOf } from '../support/opens.ts';
import { tmpDir } from '../support/tmp.ts';

const longAgo = new Date('2020-01-01');

test('a file is read once, and again when another takes its place, however alike the two are', async (t) => {
  const path = join(tmpDir(t), 'claim');
  const texts = new FileTexts();
  assert.equal(await texts.read(path), undefined);
  writeFileSync(path, 'one');
  utimesSync(path, longAgo, longAgo);
  assert.equal(await texts.read(path), 'one');
  assert.deepEqual(await openedOf([path], () => texts.read(path)), []);
  await writeAtomic(path, 'two', { mode: 0o600 });
  utimesSync(path, longAgo, longAgo);
  assert.equal(await texts.read(path), 'two');
  rmSync(path);
  assert.equal(await texts.read(path), undefined);
});

test('a file that has just changed is read each time', async (t) => {
  const path = join(tmpDir(t), 'claim');
  const texts = new FileTexts();
  writeFileSync(path, 'one');
  assert.equal(await texts.read(path), 'one');
  // As within one tick of the clock: the same file, size and time.
  const { mtime } = statSync(path);
  writeFileSync(path, 'two');
  utimesSync(path, mtime, mtime);
  assert.equal(await texts.read(path), 'two');
});
