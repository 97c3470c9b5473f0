import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { hostileArchives, oneFile, sector } from '../support/hostile-archives.ts';
import { importBytes } from '../support/memory-import.ts';
import { blocksOf, pax, tarEnd, tarHeader } from '../support/tar-blocks.ts';
import { tmpDir } from '../support/tmp.ts';

for (const { name, bytes, message } of hostileArchives) {
  test(`an archive with ${name} is refused`, async () => {
    await assert.rejects(importBytes(bytes), { code: 'refused', message });
  });
}

test('a map of a million parts and one more is refused', async () => {
  const map = `1000001\n${'0\n0\n'.repeat(1000)}`;
  const archive = Buffer.concat([
    pax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '4096' }),
    tarHeader({ size: blocksOf(map).length }),
    blocksOf(map),
    tarEnd,
  ]);
  await assert.rejects(importBytes(archive), { message: /more than 1000000 parts/ });
});

test('more files than an import may have are refused', async () => {
  const one = tarHeader({ name: 'x', size: 0 });
  const archive = gzipSync(Buffer.concat([...Array.from({ length: 20_001 }, () => one), tarEnd]));
  await assert.rejects(importBytes(archive), { message: /it has more than 20000 files/ });
});

test('compression in compression ends at its limit; xz in xz is refused and does not wait', async () => {
  let bytes: Uint8Array = Buffer.concat([oneFile, tarEnd]);
  for (let depth = 0; depth < 8; depth += 1) bytes = gzipSync(bytes);
  await assert.rejects(importBytes(bytes), { message: /packed into more than 6/ });
  const xz = (input: Uint8Array): Buffer =>
    execFileSync('xz', ['-c'], { input, maxBuffer: 2 ** 22 });
  const noise = createHash('shake256', { outputLength: 2 ** 20 })
    .update('noise')
    .digest();
  await assert.rejects(importBytes(xz(xz(noise))), { message: /xz-compressed twice/ });
  // As it is afterwards.
  assert.equal((await importBytes(xz(sector))).fileBytes, 512);
});

test('an archive that is cut at any block is refused, whatever is in it', async (t) => {
  for (const archive of archives(t)) {
    const end = archive.length - trailingZeros(archive);
    for (let length = 512; length < end; length += 512) {
      await assert.rejects(
        importBytes(archive.subarray(0, length)),
        { code: 'refused' },
        `cut at ${length} of ${end}`,
      );
    }
    assert.equal((await importBytes(archive)).fileBytes, 64 * 1024);
  }
});

/** Archives of each kind with a sparse disk between other files. */
function archives(t: TestContext): readonly Buffer[] {
  const dir = tmpDir(t);
  const disk = Buffer.alloc(64 * 1024);
  for (let at = 0; at < 8; at += 1) disk.fill(0x5a, at * 8192, at * 8192 + 512);
  writeFileSync(join(dir, 'disk.raw'), disk);
  execFileSync('fallocate', ['-d', join(dir, 'disk.raw')]);
  writeFileSync(join(dir, 'a.txt'), 'text');
  mkdirSync(join(dir, 'folder'));
  const kinds = [
    ['--format=gnu'],
    ['--format=gnu', '-S'],
    ...['0.0', '0.1', '1.0'].map((it) => ['--format=pax', '-S', `--sparse-version=${it}`]),
  ];
  return kinds.map((args) => {
    const path = join(dir, 'archive');
    execFileSync('tar', ['-C', dir, ...args, '-b1', '-cf', path, 'folder', 'disk.raw', 'a.txt']);
    return readFileSync(path);
  });
}

function trailingZeros(archive: Buffer): number {
  let at = archive.length;
  while (at >= 512 && archive.subarray(at - 512, at).every((byte) => byte === 0)) at -= 512;
  return archive.length - at;
}
