/**
 * Compares the import of a sparse image of 1 GiB in a `tar.xz` with `xz -d | tar x` of the same file, in turn:
 * `npm run bench:import`. BENCH_ROUNDS sets the count (5). Only the ratio is comparable.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unpack } from '../src/image/import/unpack.ts';
import { archivedDisk } from './archive.ts';
import { formatTable, pairedRatio, spread } from './figures.ts';

const MiB = 1024 * 1024;
/** As root, of the program that decompresses. */
const uid = process.getuid?.() === 0 ? 70_323 : undefined;
const rounds = Number(process.env.BENCH_ROUNDS ?? 5);
const dir = mkdtempSync(join(tmpdir(), 'bench-import-'));
try {
  const archive = archivedDisk(dir, { dataMiB: 50 });
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round += 1) {
    if (round % 2 === 0) ours.push(await timed(() => importOnce(archive)));
    theirs.push(await timed(() => byPrograms(archive)));
    if (round % 2 === 1) ours.push(await timed(() => importOnce(archive)));
  }
  const heads = ['1 GiB sparse tar.xz', 'import, ms', 'xz -d | tar x, ms', 'ratio'];
  const row = ['time', spread(ours), spread(theirs), pairedRatio(ours, theirs)];
  console.log(formatTable([heads, row]));
} finally {
  rmSync(dir, { recursive: true, force: true });
}

async function importOnce(archive: string): Promise<void> {
  const [source, dest] = [openSync(archive, 'r'), openSync(join(dir, 'imported'), 'w+')];
  const limits = { maxBytes: 2048 * MiB };
  const request = {
    source,
    dest,
    name: archive,
    limits,
    onProgress: () => undefined,
    ...(uid && { uid }),
  };
  await unpack(request, { signal: AbortSignal.timeout(600_000) });
  for (const fd of [source, dest]) closeSync(fd);
}

async function byPrograms(archive: string): Promise<void> {
  const xz = spawn('xz', ['-dc', archive], { stdio: ['ignore', 'pipe', 'inherit'] });
  const tar = spawn('tar', ['-C', dir, '-x'], { stdio: [xz.stdout, 'inherit', 'inherit'] });
  await once(tar, 'exit');
}

async function timed(run: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await run();
  return performance.now() - began;
}
