import { constants, type Stats } from 'node:fs';
import { lstat, readdir, stat, statfs } from 'node:fs/promises';
import {
  allocateSpace,
  closeAside,
  errnoOf,
  HostError,
  openAside,
  type ProcessIdentity,
  statAside,
} from '#host';
import { VmError } from '../error.ts';

/** Allocates the space of a disk's file, also beyond its end; what it contains stays. Throws VmError where there is not as much. */
export async function allocate(
  fd: number,
  { path, bytes }: { readonly path: string; readonly bytes: number },
): Promise<void> {
  const { blocks } = await statAside(fd);
  const needed = bytes - blocks * 512;
  const { bavail, bsize } = await statfs(`/proc/self/fd/${fd}`);
  const what = `${path} needs ${needed} more bytes, since all of its space is allocated (sparse = false)`;
  // Looked at first: a file system that becomes full while it allocates keeps what it has.
  if (needed > bavail * bsize) throw noRoom(`${what}: ${bavail * bsize} are free`);
  try {
    await allocateSpace(fd, bytes);
  } catch (cause) {
    if (!(cause instanceof HostError)) throw cause;
    throw noRoom(`${what}: ${cause.errno ?? cause.message}`, cause);
  }
}

/** There may be room another time, as for any other disk that does not fit. */
function noRoom(text: string, cause?: unknown): VmError {
  return new VmError('host', text, { cause, recoverable: true });
}

/** The same for the file at `path` that a process has open: the name may be another file's by now. */
export async function allocateOpen(
  { pid }: Pick<ProcessIdentity, 'pid'>,
  file: { readonly path: string; readonly bytes: number },
): Promise<void> {
  const named = await lstat(file.path);
  const link = await linkTo(named, `/proc/${pid}/fd`);
  if (!named.isFile() || link === undefined) {
    throw new VmError('host', `${file.path} is not the file that QEMU has open`);
  }
  const fd = await openAside(link, constants.O_RDWR);
  try {
    await allocate(fd, file);
  } finally {
    await closeAside(fd);
  }
}

async function linkTo(named: Stats, links: string): Promise<string | undefined> {
  for (const name of await readdir(links)) {
    const link = `${links}/${name}`;
    if (await isSame(named, link)) return link;
  }
  return undefined;
}

async function isSame({ dev, ino }: Stats, link: string): Promise<boolean> {
  try {
    const stats = await stat(link);
    return stats.dev === dev && stats.ino === ino;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}
