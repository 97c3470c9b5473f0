import assert from 'node:assert/strict';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { writeAtomic } from '#host';
import { tmpDir } from '../support/tmp.ts';

test('a file is written with exactly its mode, and nothing beside it stays', async (t) => {
  const dir = tmpDir(t);
  const path = join(dir, 'file');
  for (const mode of [0o600, 0o644, 0o666, 0o400]) {
    await writeAtomic(path, 'text', { mode });
    assert.equal(statSync(path).mode & 0o777, mode);
  }
  await writeAtomic(path, new Uint8Array([0, 255]), { mode: 0o600 });
  assert.deepEqual([...readFileSync(path)], [0, 255]);
  assert.deepEqual(readdirSync(dir), ['file']);
});

test('a reader never sees a part', async (t) => {
  const path = join(tmpDir(t), 'file');
  const contents = ['a', 'b'].map((letter) => letter.repeat(100_000));
  await writeAtomic(path, contents[0] ?? '', { mode: 0o600 });
  let writing = true;
  const writer = (async () => {
    for (let n = 0; n < 50; n += 1) await writeAtomic(path, contents[n % 2] ?? '', { mode: 0o600 });
    writing = false;
  })();
  while (writing) {
    assert.ok(contents.includes(readFileSync(path, 'utf8')));
    await new Promise(setImmediate);
  }
  await writer;
});

test('a link is replaced, not followed', async (t) => {
  const dir = tmpDir(t);
  writeFileSync(join(dir, 'target'), 'mine');
  symlinkSync('target', join(dir, 'link'));
  await writeAtomic(join(dir, 'link'), 'new', { mode: 0o600 });
  assert.equal(readFileSync(join(dir, 'target'), 'utf8'), 'mine');
});

test('what cannot be written is an error and leaves nothing', async (t) => {
  const dir = tmpDir(t);
  mkdirSync(join(dir, 'taken/deep'), { recursive: true });
  await assert.rejects(writeAtomic(join(dir, 'taken'), 'x', { mode: 0o600 }), {
    name: 'HostError',
    errno: 'EISDIR',
  });
  await assert.rejects(writeAtomic(join(dir, 'no/where'), 'x', { mode: 0o600 }), {
    name: 'HostError',
    errno: 'ENOENT',
  });
  assert.deepEqual(readdirSync(dir), ['taken']);
});

test('a long name is no obstacle', async (t) => {
  const path = join(tmpDir(t), 'n'.repeat(255));
  await writeAtomic(path, 'x', { mode: 0o600 });
  assert.equal(readFileSync(path, 'utf8'), 'x');
});
