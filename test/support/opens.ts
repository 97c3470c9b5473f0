import { closeSync, readSync } from 'node:fs';
import koffi from 'koffi';

const nonBlocking = 0o4000;
const closeOnExec = 0o2000000;
const inOpen = 0x20;

/** Which of these files are really opened, by anyone, while the work runs: a look with O_PATH opens nothing. */
export async function openedOf(
  paths: readonly string[],
  work: () => unknown,
): Promise<readonly string[]> {
  const libc = koffi.load(null);
  const init = libc.func('int inotify_init1(int flags)');
  const add = libc.func('int inotify_add_watch(int fd, str path, uint32_t mask)');
  const fd: number = init(nonBlocking | closeOnExec);
  try {
    const watched = new Map(paths.map((path) => [Number(add(fd, path, inOpen)), path]));
    await work();
    const opened = readEvents(fd).map((watch) => watched.get(watch) ?? 'a file not watched');
    return [...new Set(opened)];
  } finally {
    closeSync(fd);
  }
}

/** The numbers of the watches. Events of files that are no directories have no name: 16 bytes each. */
function readEvents(fd: number): readonly number[] {
  const bytes = Buffer.alloc(4096);
  try {
    const length = readSync(fd, bytes);
    return Array.from({ length: length / 16 }, (_, index) => bytes.readInt32LE(index * 16));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return [];
    throw error;
  }
}
