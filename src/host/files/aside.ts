/**
 * Work on open files in threads of the pool: a file system whose server does not answer holds the thread that asks. Descriptors
 * have to stay open until it is done, except one that is closed here.
 */
import { close, fstat, ftruncate } from 'node:fs';
import { promisify } from 'node:util';
import { attemptAside, libcError } from '../native/libc.ts';
import { beneath, openAside } from './descriptor.ts';

export const statAside = promisify(fstat);
export const resizeAside = promisify(ftruncate);

/** As `reopen`. Throws HostError. */
export function reopenAside(fd: number, flags: number): Promise<number> {
  return openAside(`/proc/self/fd/${fd}`, flags);
}

/** As `openBeneath`. Throws HostError. */
export async function openBeneathAside(
  rootFd: number,
  name: string,
  flags: number,
): Promise<number> {
  const { what, call, maxTries } = beneath(rootFd, name, flags);
  for (let tries = 1; ; tries += 1) {
    const { value, errno } = await attemptAside(...call);
    if (errno === undefined) return value;
    if (errno !== 'EAGAIN' || tries >= maxTries) throw libcError(what, errno);
  }
}

/** Closes a descriptor, which is no longer the caller's, at some later time. */
export function closeLater(fd: number): void {
  close(fd, () => {});
}
