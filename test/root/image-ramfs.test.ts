import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const door = join(import.meta.dirname, '../../src/image/index.ts');

/** Runs where a ramfs, which knows neither SEEK_HOLE nor clones, is mounted at the first argument. */
const program = `
  import { fstatSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
  import { copyImage, imageHandler } from ${JSON.stringify(door)};
  const [ramfs, target] = process.argv.slice(1);
  const waiting = { signal: AbortSignal.timeout(20000) };
  const path = ramfs + '/source.img';
  writeFileSync(path, Buffer.alloc(100000, 0x5a));
  truncateSync(path, 64 * 2 ** 20);
  const roots = { trusted: [ramfs], task: [], relativeTo: [] };
  using image = await imageHandler.getImageFormat(path, roots, { maxVirtualBytes: 2 ** 40 }, waiting);
  const fd = openSync(target, 'w+');
  const { how } = await copyImage(image, fd, waiting);
  const same = readFileSync(path).equals(readFileSync(target));
  console.log(JSON.stringify({ how, same, blocks: fstatSync(fd).blocks }));
`;

test('V-38: where the file system reports no holes, the copy has them all the same', (t) => {
  const can = process.getuid?.() === 0 && findProgram('unshare') !== undefined;
  if (!requireOrSkip(t, can, 'needs root and unshare, for a mount of its own')) return;
  const dir = tmpDir(t);
  const ramfs = join(dir, 'ramfs');
  mkdirSync(ramfs);
  const script = 'mount -t ramfs none "$1" && exec "$0" --input-type=module -e "$3" "$1" "$2"';
  const result = spawnSync(
    'unshare',
    ['--mount', 'sh', '-c', script, process.execPath, ramfs, join(dir, 'copy.img'), program],
    { encoding: 'utf8', timeout: 60_000 },
  );
  assert.equal(result.status, 0, result.stderr);
  const { how, same, blocks } = JSON.parse(result.stdout);
  assert.deepEqual([how, same], ['sparse', true]);
  assert.ok(blocks * 512 < 2 ** 20);
});
