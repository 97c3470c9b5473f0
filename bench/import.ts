/**
 * Compares the import of a sparse image of 1 GiB in a `tar.xz` with `xz -d | tar x` of the same file, in turn and with the same
 * priority: `npm run bench:import`. BENCH_ROUNDS sets the count (5). Only the ratio is comparable. As root the program of the host
 * is measured as well, which is used where there is one.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { yieldsToOthers } from '../src/host/process/priority.ts';
import { unpack } from '../src/image/import/unpack.ts';
import { openAllowed } from '../src/image/roots.ts';
import { ImageStore } from '../src/image/store/image-store.ts';
import { archivedDisk } from './archive.ts';
import { formatTable, pairedRatio, spread } from './figures.ts';

const MiB = 1024 * 1024;
/** Of the program that decompresses. */
const uid = 70_323;
const silent = (): void => {};
const rounds = Number(process.env.BENCH_ROUNDS ?? 5);
const dir = mkdtempSync(join(tmpdir(), 'bench-import-'));
// The thread's sources are compiled once, as they are in the executable.
process.env.NODE_COMPILE_CACHE = join(dir, 'compiled');
enableCompileCache(process.env.NODE_COMPILE_CACHE);
try {
  const archive = archivedDisk(dir, { dataMiB: 50 });
  const rows = [['1 GiB sparse tar.xz', 'import, ms', 'xz -d | tar x, ms', 'ratio']];
  if (process.getuid?.() === 0) {
    rows.push(await compare('by xz of the host', () => importOnce(archive, { uid }), archive));
    rows.push(await compare('the same, into the store', () => storeOnce(archive), archive));
  }
  rows.push(await compare('in WebAssembly', () => importOnce(archive, {}), archive));
  console.log(formatTable(rows));
} finally {
  rmSync(dir, { recursive: true, force: true });
}

async function compare(name: string, run: () => Promise<void>, archive: string): Promise<string[]> {
  await timed(run);
  const [ours, theirs]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds; round += 1) {
    if (round % 2 === 0) ours.push(await timed(run));
    theirs.push(await timed(() => byPrograms(archive)));
    if (round % 2 === 1) ours.push(await timed(run));
  }
  return [name, spread(ours), spread(theirs), pairedRatio(ours, theirs)];
}

async function importOnce(archive: string, by: { readonly uid?: number }): Promise<void> {
  const [source, dest] = [openSync(archive, 'r'), openSync(join(dir, 'imported'), 'w+')];
  const limits = { maxBytes: 2048 * MiB };
  const request = { source, dest, name: archive, limits, onProgress: () => undefined, ...by };
  await unpack(request, { signal: AbortSignal.timeout(600_000) });
  for (const fd of [source, dest]) closeSync(fd);
}

/** As a task has it made: with a checksum of the source before, checked, and safe on the disk. */
async function storeOnce(archive: string): Promise<void> {
  const log = { trace: silent, debug: silent, info: silent, warn: silent, error: silent };
  const store = new ImageStore({ dir: join(dir, 'store'), maxBytes: 2 ** 40, log });
  const waiting = { signal: AbortSignal.timeout(600_000) };
  const file = await openAllowed(archive, { trusted: [dir], task: [], relativeTo: [] }, waiting);
  const converter = { qemuImg: undefined, prlimit: undefined, uid, mark: 'bench' };
  const request = { file, maxVirtualBytes: 2048 * MiB, converter };
  using _ = await store.obtain(request, { lease: 'bench', onProgress: silent }, waiting);
  closeSync(file.fd);
}

async function byPrograms(archive: string): Promise<void> {
  const options = { detached: true } as const;
  const xz = spawn('xz', ['-dc', archive], { ...options, stdio: ['ignore', 'pipe', 'inherit'] });
  const stdio = [xz.stdout, 'inherit', 'inherit'] as const;
  const tar = spawn('tar', ['-C', dir, '-x'], { ...options, stdio: [...stdio] });
  for (const { pid } of [xz, tar]) if (pid !== undefined) yieldsToOthers(pid);
  await once(tar, 'exit');
}

async function timed(run: () => Promise<void>): Promise<number> {
  // To remove what another run wrote takes a while.
  for (const name of ['imported', 'disk.raw', 'store']) {
    rmSync(join(dir, name), { recursive: true, force: true });
  }
  const began = performance.now();
  await run();
  return performance.now() - began;
}
