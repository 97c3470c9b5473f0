import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runProgram } from '#host';
import { planDisk } from '../../src/vm/disks/plan.ts';
import { maxFileBytes, qemuLimits } from '../../src/vm/live/limits.ts';
import { diskOn } from '../support/disks.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const waiting = () => ({ signal: AbortSignal.timeout(60_000) });

const disks = [
  ['a raw copy: its size', { thin: false }, 'raw', 10 * GiB],
  ['an overlay: its size and tables', { thin: true }, 'raw', 10.6875 * GiB],
  ['a qcow2 copy: what the image had as well', { thin: false }, 'qcow2', 12.8125 * GiB],
] as const;

for (const [name, { thin }, format, bytes] of disks) {
  test(`how long a disk's file may become; ${name}`, () => {
    const spec = diskOn('a.img', 10 * 1024, thin);
    const image = { format, virtualBytes: 2 * GiB, fileBytes: 2 * GiB };
    assert.equal(planDisk(spec, image).maxFileBytes, bytes);
  });
}

test('threads and open files of a QEMU with two CPUs', () => {
  assert.deepEqual(qemuLimits(2), { openFiles: 4096, processes: 258 });
  assert.equal(qemuLimits(2, 4).processes, 262);
});

const lengths = [
  [0, 0, 1],
  [0, 1, 1],
  [0, GiB - 64 * MiB, 1],
  [0, GiB - 64 * MiB + 1, 2],
  [8 * GiB, 3 * GiB, 8],
  [8 * GiB, 8 * GiB, 9],
] as const;

for (const [disk, appended, longestGiB] of lengths) {
  test(`with a disk of ${disk} and a console log of ${appended} bytes files may have ${longestGiB} GiB`, () => {
    assert.equal(maxFileBytes(disk, appended), longestGiB * GiB);
  });
}

// The worst that a guest can do to a disk: every cluster written, given back, and written again in another order.
const clusters = [512, 4 * KiB, 64 * KiB] as const;

for (const clusterBytes of clusters) {
  test(`a full qcow2 with clusters of ${clusterBytes} bytes stays below its limit`, async (t) => {
    const tools = ['qemu-img', 'qemu-io'].map((it) => findProgram(it) ?? '');
    if (!requireOrSkip(t, !tools.includes(''), 'needs qemu-img and qemu-io')) return;
    const [img = '', io = ''] = tools;
    const path = join(tmpDir(t), 'disk.qcow2');
    const virtualBytes = Math.min(8 * MiB, 4096 * clusterBytes);
    const run = async (program: string, args: readonly string[], stdin = ''): Promise<void> => {
      const { code, stderr } = await runProgram({ program, args, stdin }, waiting());
      assert.equal(code, 0, stderr);
    };
    const options = `cluster_size=${clusterBytes},refcount_bits=64`;
    await run(img, ['create', '-q', '-f', 'qcow2', '-o', options, path, String(virtualBytes)]);
    const step = 128 * KiB;
    const places = Array.from({ length: virtualBytes / step }, (_, index) => index * step);
    const each = (verb: string, at: readonly number[]): string =>
      at.map((it) => `${verb} ${it} ${step}\n`).join('');
    const script = [
      each('write', places),
      each('discard', places.toReversed()),
      each('write', places.toReversed()),
    ];
    await run(io, ['-f', 'qcow2', '-d', 'unmap', path], `${script.join('')}quit\n`);
    const { size } = statSync(path);
    const { maxFileBytes: diskBytes } = planDisk(diskOn('a.img', virtualBytes / MiB), {
      format: 'raw',
      virtualBytes: 0,
      fileBytes: 0,
    });
    assert.ok(size > virtualBytes, 'it is full');
    // Without the fixed part of the limit, which is for small disks.
    assert.ok(size <= diskBytes - 64 * MiB + 2 * MiB, `${size} of ${diskBytes} bytes`);
  });
}
