import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const MiB = 1024 * 1024;
const diskMiB = 1024;

export interface ArchivedDisk {
  readonly dataMiB: number;
  /** What it begins with. */
  readonly head?: Uint8Array;
  /** Of xz. */
  readonly level?: number;
}

/** A `tar.xz` with a sparse image of 1 GiB, half of whose data can be compressed. */
export function archivedDisk(dir: string, { dataMiB, head, level = 6 }: ArchivedDisk): string {
  const fd = openSync(join(dir, 'disk.raw'), 'w');
  ftruncateSync(fd, diskMiB * MiB);
  const [noise, text] = [MiB / 2, Buffer.alloc(MiB / 2, 'compressible ')];
  for (let at = 0; at < dataMiB; at += 1) {
    const place = Math.floor((at * diskMiB) / dataMiB) * MiB;
    writeSync(fd, randomBytes(noise), 0, noise, place);
    writeSync(fd, text, 0, text.length, place + noise);
  }
  if (head !== undefined) writeSync(fd, head, 0, head.length, 0);
  closeSync(fd);
  const archive = join(dir, 'archive');
  execFileSync('tar', ['-C', dir, '-I', `xz -${level}`, '-cSf', archive, 'disk.raw']);
  return archive;
}
