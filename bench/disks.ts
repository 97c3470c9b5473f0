/**
 * Ratios of disks, measured pair by pair in one run: `npm run bench:disks`. A thin disk of 10 TiB against one of 1 GiB, and
 * a full copy against `cp --sparse=always --reflink=never`. BENCH_ROUNDS sets the count (15). Only the ratios are comparable.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { copyImage } from '../src/image/copy.ts';
import { type OpenImage, openImage } from '../src/image/open-image.ts';
import { createOverlay } from '../src/image/overlay.ts';
import { formatTable, pairedRatio, spread } from './figures.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const rounds = Number(process.env.BENCH_ROUNDS ?? 15);
const waiting = { signal: AbortSignal.timeout(600_000) };
const dir = mkdtempSync(join(tmpdir(), 'bench-disks-'));
try {
  const small = makeImage('small', GiB, 200);
  const large = makeImage('large', 10 * 1024 * GiB, 1);
  console.log(
    formatTable([
      ['', 'ours, ms', 'the other, ms', 'ratio'],
      [
        'thin disk, 10 TiB : 1 GiB',
        ...(await pairs(
          () => thin(large),
          () => thin(small),
        )),
      ],
      [
        'copy of 1 GiB with 200 MiB : cp',
        ...(await pairs(
          () => copy(small),
          () => cp(small),
        )),
      ],
    ]),
  );
} finally {
  rmSync(dir, { recursive: true, force: true });
}

/** A sparse raw image with so many MiB of data. */
function makeImage(name: string, bytes: number, dataMiB: number): string {
  const path = join(dir, name);
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bytes);
  for (let at = 0; at < dataMiB; at += 1) {
    writeSync(fd, randomBytes(MiB), 0, MiB, at * Math.floor(bytes / dataMiB / MiB) * MiB);
  }
  closeSync(fd);
  return path;
}

async function pairs(
  one: () => Promise<void>,
  other: () => Promise<void>,
): Promise<readonly string[]> {
  const [ours, theirs]: [number[], number[]] = [[], []];
  await one();
  for (let round = 0; round < rounds; round += 1) {
    if (round % 2 === 0) ours.push(await timed(one));
    theirs.push(await timed(other));
    if (round % 2 === 1) ours.push(await timed(one));
  }
  return [spread(ours), spread(theirs), pairedRatio(ours, theirs)];
}

async function withTarget(path: string, make: MakeDisk): Promise<void> {
  const roots = { trusted: [dir], task: [], relativeTo: [] };
  using image = await openImage(path, roots, { maxVirtualBytes: 2 ** 50 }, waiting);
  const fd = openSync(join(dir, 'disk'), 'w+');
  try {
    await make(image, fd);
  } finally {
    closeSync(fd);
  }
}

type MakeDisk = (image: OpenImage, fd: number) => unknown;

async function thin(path: string): Promise<void> {
  await withTarget(path, (base, fd) =>
    createOverlay({ fd, base, virtualBytes: base.virtualBytes }),
  );
}

async function copy(path: string): Promise<void> {
  await withTarget(path, (image, fd) => copyImage(image, fd, waiting));
}

async function cp(path: string): Promise<void> {
  const args = ['--sparse=always', '--reflink=never', path, join(dir, 'disk')];
  await once(spawn('cp', args, { stdio: 'inherit' }), 'exit');
}

async function timed(run: () => Promise<void>): Promise<number> {
  rmSync(join(dir, 'disk'), { force: true });
  const began = performance.now();
  await run();
  return performance.now() - began;
}
