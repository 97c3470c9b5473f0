import assert from 'node:assert/strict';
import { constants, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd, openPath, startWriteBack, widePipe } from '#host';
import { tmpDir } from '../support/tmp.ts';

test('a file that is being written to the disk may be closed meanwhile, and stays as it is', async (t) => {
  const path = join(tmpDir(t), 'file');
  const bytes = Buffer.alloc(2 ** 20, 'written ');
  const open = readdirSync('/proc/self/fd').length;
  const fd = openPath(path, constants.O_RDWR | constants.O_CREAT);
  writeSync(fd, bytes);
  const started = startWriteBack(fd);
  closeFd(fd);
  await started;
  assert.ok(readFileSync(path).equals(bytes));
  assert.equal(readdirSync('/proc/self/fd').length, open);
  await assert.rejects(startWriteBack(fd), { code: 'system', errno: 'EBADF' });
});

test('what can not be written to a disk is left alone', async () => {
  const { read, write } = widePipe('write');
  await startWriteBack(write);
  for (const fd of [read, write]) closeFd(fd);
});
