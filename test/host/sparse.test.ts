import assert from 'node:assert/strict';
import { constants, fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  closeFd,
  copyRange,
  ficlone,
  openPath,
  punchHole,
  seekData,
  seekDataAside,
  seekHoleAside,
} from '#host';
import { tmpDir } from '../support/tmp.ts';

const kibibyte = 1024;

/** 1 MiB of which only [256 KiB, 320 KiB) is written. */
function sparseFile(t: TestContext): number {
  const fd = openPath(join(tmpDir(t), 'sparse'), constants.O_RDWR | constants.O_CREAT);
  t.after(() => closeFd(fd));
  ftruncateSync(fd, 1024 * kibibyte);
  writeSync(fd, Buffer.alloc(64 * kibibyte, 1), 0, 64 * kibibyte, 256 * kibibyte);
  return fd;
}

test('data and holes are found', async (t) => {
  const fd = sparseFile(t);
  assert.equal(seekData(fd, 0), 256 * kibibyte);
  assert.equal(await seekDataAside(fd, 0), 256 * kibibyte);
  assert.equal(await seekHoleAside(fd, 0), 0);
  assert.equal(await seekHoleAside(fd, 256 * kibibyte), 320 * kibibyte);
  assert.equal(seekData(fd, 320 * kibibyte), undefined);
  assert.equal(await seekDataAside(fd, 320 * kibibyte), undefined);
  assert.equal(await seekHoleAside(fd, 1024 * kibibyte - 1), 1024 * kibibyte - 1);
});

test('offsets beyond 4 GiB survive the way into C and back', (t) => {
  const fd = openPath(join(tmpDir(t), 'large'), constants.O_RDWR | constants.O_CREAT);
  t.after(() => closeFd(fd));
  const far = 2 ** 40; // 1 TiB
  ftruncateSync(fd, far + 8192);
  writeSync(fd, Buffer.from('x'), 0, 1, far + 4096);
  assert.equal(seekData(fd, 5), far + 4096);
});

test('a punched hole reads as zeros and gives its blocks back', (t) => {
  const fd = sparseFile(t);
  const before = fstatSync(fd);
  punchHole(fd, 256 * kibibyte, 64 * kibibyte);
  punchHole(fd, 0, 0);
  const after = fstatSync(fd);
  assert.equal(after.size, before.size);
  assert.ok(after.blocks < before.blocks);
  const bytes = Buffer.alloc(64 * kibibyte, 7);
  readSync(fd, bytes, 0, bytes.length, 256 * kibibyte);
  assert.ok(bytes.every((byte) => byte === 0));
});

test('a range is copied by the kernel to the same place, as far as the source goes', async (t) => {
  const [source, dest] = [sparseFile(t), sparseFile(t)];
  writeSync(source, Buffer.alloc(8 * kibibyte, 7), 0, 8 * kibibyte, 1020 * kibibyte);
  const range = { offset: 1022 * kibibyte, length: 64 * kibibyte };
  assert.equal(await copyRange(source, dest, range), 6 * kibibyte);
  const bytes = Buffer.alloc(8 * kibibyte);
  assert.equal(readSync(dest, bytes, 0, bytes.length, 1020 * kibibyte), bytes.length);
  assert.deepEqual(bytes, Buffer.concat([Buffer.alloc(2048), Buffer.alloc(6144, 7)]));
  assert.equal(await copyRange(source, dest, { offset: 2 ** 40, length: 1 }), 0);
});

test('copying by the kernel between other kinds of files is no error, and without the right to write it is one', async (t) => {
  const range = { offset: 0, length: 4096 };
  const device = openPath('/dev/zero', constants.O_RDONLY);
  t.after(() => closeFd(device));
  assert.equal(await copyRange(device, sparseFile(t), range), undefined);
  const readOnly = openPath(join(tmpDir(t), 'dest'), constants.O_RDONLY | constants.O_CREAT);
  t.after(() => closeFd(readOnly));
  await assert.rejects(copyRange(sparseFile(t), readOnly, range), { errno: 'EBADF' });
});

test('cloning shares the content where the file system can, and reports that where it cannot', async (t) => {
  const source = sparseFile(t);
  const target = openPath(join(tmpDir(t), 'clone'), constants.O_RDWR | constants.O_CREAT);
  t.after(() => closeFd(target));
  const cloned = await ficlone(target, source, { signal: AbortSignal.timeout(5000) });
  assert.equal(fstatSync(target).size, cloned ? 1024 * kibibyte : 0);
});

test('a descriptor that is not open is an error with its errno', async () => {
  const waiting = { signal: AbortSignal.timeout(5000) };
  await assert.rejects(ficlone(-1, -1, waiting), { name: 'HostError', errno: 'EBADF' });
  for (const act of [() => seekData(-1, 0), () => punchHole(-1, 0, 1)]) {
    assert.throws(act, { name: 'HostError', errno: 'EBADF' });
  }
  for (const seek of [seekHoleAside, seekDataAside]) {
    await assert.rejects(seek(-1, 0), { name: 'HostError', errno: 'EBADF' });
  }
});
