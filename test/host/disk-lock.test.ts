import assert from 'node:assert/strict';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lockDisk, takesScsiCommands } from '#host';
import { duplicate } from '../../src/host/files/descriptor.ts';
import { tmpDir } from '../support/tmp.ts';

test('V-52: a disk that is locked is refused to others until its last descriptor is closed', async (t) => {
  const path = join(tmpDir(t), 'disk');
  writeFileSync(path, '');
  const [first, second] = [openSync(path, 'r+'), openSync(path, 'r+')];
  t.after(() => closeSync(second));
  assert.ok(await lockDisk(first, path));
  assert.ok(await lockDisk(first, path), 'the holder may ask again');
  assert.equal(await lockDisk(second, path), false);
  const passedOn = duplicate(first);
  closeSync(first);
  assert.equal(await lockDisk(second, path), false);
  closeSync(passedOn);
  assert.ok(await lockDisk(second, path));
});

test('V-142: a file takes no SCSI commands', async (t) => {
  const path = join(tmpDir(t), 'disk');
  writeFileSync(path, '');
  const fd = openSync(path, 'r');
  t.after(() => closeSync(fd));
  assert.equal(await takesScsiCommands(fd), false);
});
