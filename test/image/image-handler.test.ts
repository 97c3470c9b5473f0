import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { imageHandler } from '../../src/image/image-handler.ts';
import { inspectQcow2 } from '../../src/image/qcow2.ts';
import { sectorImage } from '../support/images.ts';
import { tmpDir } from '../support/tmp.ts';

const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(5000) });
const MiB = 2 ** 20;

test('V-37: a thin copy states the format of the file that was opened, whatever has its name by then', async (t) => {
  const dir = tmpDir(t);
  const roots = { trusted: [dir], task: [], relativeTo: [dir] };
  const path = join(dir, 'base.img');
  writeFileSync(path, 'raw');
  truncateSync(path, MiB);
  using base = await imageHandler.getImageFormat(
    'base.img',
    roots,
    { maxVirtualBytes: MiB },
    soon(),
  );
  rmSync(path);
  writeFileSync(path, readFileSync(sectorImage(0, 'qcow2')));
  const fd = openSync(join(dir, 'copy'), 'w+');
  t.after(() => closeSync(fd));
  await imageHandler.createThinCopy({ fd, base, virtualBytes: 2 * MiB });
  const copy = readFileSync(join(dir, 'copy'));
  const { virtualBytes, problems } = inspectQcow2(copy, copy.length);
  assert.equal(virtualBytes, 2 * MiB);
  assert.deepEqual(problems, ['it names a backing file', 'it names the format of a backing file']);
  assert.equal(base.format, 'raw');
  assert.ok(copy.subarray(0, 512).includes(`raw\0\0\0\0\0${'\0'.repeat(8)}${path}`));
});
