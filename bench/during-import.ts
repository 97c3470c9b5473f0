/**
 * Compares StartTask during the import of an image with StartTask without one, in turn: `npm run bench:during-import`.
 * BENCH_ROUNDS sets the count of imports (5). Only the ratio is comparable.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sectorImage } from '../test/support/images.ts';
import { archivedDisk } from './archive.ts';
import { DriverPath } from './driver.ts';
import { formatTable, pairedRatio, spread } from './figures.ts';

const rounds = Number(process.env.BENCH_ROUNDS ?? 5);
/** Its import takes several times as long as a start. */
const dataMiB = 200;
const dir = mkdtempSync(join(tmpdir(), 'bench-during-'));
await using driver = await DriverPath.open();
try {
  const head = readFileSync(sectorImage(0));
  const archive = archivedDisk(dir, { dataMiB, head, level: 0 });
  const [during, alone, imports]: [number[], number[], number[]] = [[], [], []];
  await startOnce();
  for (let round = 0; round < rounds; round += 1) {
    let importing = true;
    const image = { image: newArchive(archive, round), primary_disk_size: 1024 };
    const imported = driver.start('small', image).finally(() => {
      importing = false;
    });
    imported.catch(() => undefined);
    for (;;) {
      const ms = await startOnce();
      if (!importing) break;
      during.push(ms);
    }
    const vm = await imported;
    imports.push(vm.startMs);
    await driver.kill(vm);
    while (alone.length < during.length) alone.push(await startOnce());
  }
  const heads = [
    `${during.length} starts of ${rounds} imports`,
    'during, ms',
    'alone, ms',
    'ratio',
  ];
  const row = [
    'StartTask of another VM',
    spread(during),
    spread(alone),
    pairedRatio(during, alone),
  ];
  console.log(formatTable([heads, row]));
  console.log(`StartTask with the import: ${spread(imports)} ms`);
} finally {
  rmSync(dir, { recursive: true, force: true });
}

async function startOnce(): Promise<number> {
  const vm = await driver.start('small');
  await driver.kill(vm);
  return vm.startMs;
}

/** The same disk in a file of another content, so that it is imported again: zeros follow the end of an archive. */
function newArchive(archive: string, round: number): string {
  const path = join(dir, `archive${round}`);
  copyFileSync(archive, path);
  appendFileSync(path, execFileSync('xz', ['-c'], { input: Buffer.alloc(512 * (round + 1)) }));
  return path;
}
