import { attemptAside } from '../native/libc.ts';
import { closeFd, duplicate } from './descriptor.ts';

const syncFileRangeWrite = 2;
const toTheEnd = 0;

/**
 * Has what was written to a file go to the disk from now on, without waiting until it is there: a later fsync has less to do,
 * and is what finds errors. In a pool thread, which may wait for a slow disk; on a descriptor of its own, so that the caller's may
 * be closed meanwhile.
 */
export async function startWriteBack(fd: number): Promise<void> {
  const own = duplicate(fd);
  // A file system that can't do it has nothing written earlier than by fsync.
  await attemptAside('syncFileRange', own, 0, toTheEnd, syncFileRangeWrite).finally(() =>
    closeFd(own),
  );
}
