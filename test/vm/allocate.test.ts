import assert from 'node:assert/strict';
import {
  closeSync,
  ftruncateSync,
  openSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { allocate, allocateOpen } from '../../src/vm/store/allocate.ts';
import { tmpDir } from '../support/tmp.ts';

const MiB = 2 ** 20;

/** A sparse disk, which this process has open as QEMU has one. */
function sparseDisk(t: TestContext): { readonly fd: number; readonly path: string } {
  const path = join(tmpDir(t), 'disk.raw');
  const fd = openSync(path, 'wx+');
  t.after(() => closeSync(fd));
  ftruncateSync(fd, MiB);
  return { fd, path };
}

const allocated = (path: string): number => statSync(path).blocks * 512;
const self = { pid: process.pid };

test('V-54: the space of a disk is allocated, behind its end as well, and its size stays', async (t) => {
  const { fd, path } = sparseDisk(t);
  await allocate(fd, { path, bytes: 2 * MiB });
  assert.ok(allocated(path) >= 2 * MiB);
  assert.equal(statSync(path).size, MiB);
  ftruncateSync(fd, 2 * MiB);
  assert.ok(allocated(path) >= 2 * MiB, 'it is still there when the disk has grown');
});

test('V-54: more space than there is, is not tried', async (t) => {
  const { fd, path } = sparseDisk(t);
  await assert.rejects(allocate(fd, { path, bytes: 2 ** 52 }), {
    recoverable: true,
    message: /disk\.raw needs \d+ more bytes, .* \(sparse = false\): \d+ are free$/,
  });
  assert.equal(allocated(path), 0);
});

test('V-54: only the file that QEMU has open is allocated, whatever has its name by now', async (t) => {
  const { path } = sparseDisk(t);
  await allocateOpen(self, { path, bytes: MiB });
  assert.ok(allocated(path) >= MiB);
  const moved = `${path}.moved`;
  renameSync(path, moved);
  const refused = { message: /disk\.raw is not the file that QEMU has open/ };
  writeFileSync(path, '');
  await assert.rejects(allocateOpen(self, { path, bytes: MiB }), refused);
  renameSync(path, `${path}.other`);
  symlinkSync(moved, path);
  await assert.rejects(allocateOpen(self, { path, bytes: MiB }), refused);
  assert.equal(allocated(`${path}.other`), 0);
});
