import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bootKind } from '../../src/image/index.ts';
import { openImage } from '../../src/image/open-image.ts';
import { patient } from '../support/patience.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

/** A disk for UEFI alone: a GPT, no boot code, and something behind it. */
function uefiDisk(): Buffer {
  const disk = Buffer.alloc(2 ** 20);
  disk.writeUInt16BE(0x55aa, 510);
  disk.write('EFI PART', 512);
  disk.fill('some data ', 8192, 300_000);
  return disk;
}

const options: Readonly<Record<string, readonly string[]>> = {
  'as it is': [],
  'in clusters of 512 bytes': ['-o', 'cluster_size=512'],
  compressed: ['-c'],
  'compressed in clusters of 512 bytes': ['-c', '-o', 'cluster_size=512'],
  'compressed with zstd': ['-c', '-o', 'compression_type=zstd'],
  'compressed with zstd in clusters of 2 MiB': [
    '-c',
    '-o',
    'compression_type=zstd,cluster_size=2M',
  ],
};
for (const [name, args] of Object.entries(options)) {
  test(`boot kind: what qemu-img converts stays a disk for UEFI: ${name}`, async (t) => {
    const qemuImg = findProgram('qemu-img');
    if (!requireOrSkip(t, qemuImg !== undefined, 'qemu-img is not installed')) return;
    const dir = tmpDir(t);
    const [raw, qcow2] = [join(dir, 'disk.raw'), join(dir, 'disk.qcow2')];
    writeFileSync(raw, uefiDisk());
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...args, raw, qcow2]);
    const roots = { trusted: [dir], task: [], relativeTo: [] };
    const waiting = { signal: AbortSignal.timeout(patient(20_000)) };
    using image = await openImage(qcow2, roots, { maxVirtualBytes: 2 ** 30 }, waiting);
    assert.equal(await bootKind(image), 'uefi');
  });
}
