import { close, closeSync, constants, fstat, open, openSync, writeSync } from 'node:fs';
import { relative } from 'node:path';
import { promisify } from 'node:util';
import type { Waiting } from '#spec';
import { errnoOf, HostError, hostError } from '../error.ts';
import { attempt, attemptAside, libcError, must } from '../native/libc.ts';
import { pause } from '../waiting.ts';

// Kernel numbers that are the same on x86-64 and arm64; those that differ (O_NOFOLLOW, O_DIRECTORY) come from Node.
const oCloexec = 0o2000000;
/** O_PATH, for which Node has no constant: refers to a file without opening it, so a device or FIFO is not affected. */
export const pathOnly = 0o10000000;
export const sysCloseRange = 436;
const sysOpenat2 = 437;
const resolveBeneath = 0x08;
const duplicateCloexec = 1030;
const openFile = promisify(open);
const closeFile = promisify(close);
const statFile = promisify(fstat);

const getFlags = 3;
const setFlags = 4;
const memfdCloexec = 1;
const lockExclusive = 2;
const lockNonBlocking = 4;
const lockRetryMs = 5;

/**
 * Opens a path; programs started later don't inherit the descriptor unless it is passed to them. A FIFO opened with
 * O_RDWR | O_NONBLOCK never blocks. `mode` (octal, before the umask) is for O_CREAT. Throws HostError.
 */
export function openPath(path: string, flags: number, mode = 0o600): number {
  try {
    return openSync(path, flags, mode); // libuv adds O_CLOEXEC
  } catch (error) {
    throw hostError(`opening ${path}`, error);
  }
}

/** The same in a thread of the pool, for what may wait for a lock of the kernel or for a file system. Throws HostError. */
export async function openAside(path: string, flags: number): Promise<number> {
  try {
    return await openFile(path, flags, 0o600);
  } catch (error) {
    throw hostError(`opening ${path}`, error);
  }
}

/**
 * Creates a file (mode 0600), open for reading and writing. Not on the event loop: a file system that writes for a guest may
 * take its time. Throws HostError.
 */
export async function createFile(path: string): Promise<number> {
  try {
    return await openFile(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    throw hostError(`creating ${path}`, error);
  }
}

/** Opens the file that a descriptor refers to, even if its name is another file's by now. Throws HostError. */
export function reopen(fd: number, flags: number): number {
  return openPath(`/proc/self/fd/${fd}`, flags);
}

/** Another number for the same open file. Throws HostError. */
export function duplicate(fd: number): number {
  return must(`duplicating descriptor ${fd}`, 'fcntl', fd, duplicateCloexec, 0);
}

/**
 * Opens `name` below the directory `rootFd`. Links inside are followed as long as no component leaves the
 * directory; one that does is EXDEV (openat2 with RESOLVE_BENEATH, Linux 5.6). Throws HostError.
 */
export function openBeneath(rootFd: number, name: string, flags: number): number {
  const { what, call, maxTries } = beneath(rootFd, name, flags);
  for (let tries = 1; ; tries += 1) {
    const { value, errno } = attempt(...call);
    if (errno === undefined) return value;
    if (errno !== 'EAGAIN' || tries >= maxTries) throw libcError(what, errno);
  }
}

/** The call that does so, and how often it is tried. */
export function beneath(rootFd: number, name: string, flags: number) {
  const how = Buffer.alloc(24); // struct open_how: flags, mode, resolve, 64 bits each
  how.writeBigUInt64LE(BigInt(flags | oCloexec), 0);
  how.writeBigUInt64LE(BigInt(flags & constants.O_CREAT ? 0o600 : 0), 8);
  how.writeBigUInt64LE(BigInt(resolveBeneath), 16);
  if (name.includes('\0')) throw new HostError('opening a name with a NUL byte in it');
  const call = ['syscallOpenat2', sysOpenat2, rootFd, name, how, how.length] as const;
  // EAGAIN: a rename elsewhere raced with a ".." of the path, and the call has to be repeated.
  return { what: `opening ${name} inside the allowed directory`, call, maxTries: 11 } as const;
}

/**
 * Calls `use` with a descriptor of `path`, which must be inside the directory `root` (absolute, both): as openBeneath
 * with O_PATH and these flags, so that no link leads out of it. Throws HostError.
 */
export function withBeneath<T>(
  root: string,
  path: string,
  flags: number,
  use: (fd: number) => T,
): T {
  using opened = new DisposableStack();
  const rootFd = opened.adopt(openPath(root, pathOnly | constants.O_DIRECTORY), closeFd);
  return use(opened.adopt(openBeneath(rootFd, relative(root, path), pathOnly | flags), closeFd));
}

/** Closes a descriptor; does nothing when it is closed already. */
export function closeFd(fd: number): void {
  try {
    closeSync(fd);
  } catch (error) {
    if (errnoOf(error) !== 'EBADF') throw hostError(`closing descriptor ${fd}`, error);
  }
}

/**
 * The same in a thread of the pool, for what may wait for a lock of the kernel: the last close of a tap deletes the link. The
 * descriptor is no longer the caller's as soon as this is called. Never rejects.
 */
export async function closeAside(...fds: readonly number[]): Promise<void> {
  await Promise.all(runsOf(fds).map(closeRun));
}

/** Consecutive numbers, of which a start has many, take one request; before Linux 5.9 one each. */
async function closeRun(run: readonly number[]): Promise<void> {
  const [first = 0, last] = [run[0], run.at(-1)];
  if (last !== undefined && last > first) {
    const { errno } = await attemptAside('syscall4', sysCloseRange, first, last, 0, 0);
    if (errno === undefined) return;
  }
  await Promise.all(run.map((fd) => closeFile(fd).catch(() => undefined)));
}

function runsOf(fds: readonly number[]): readonly (readonly number[])[] {
  const runs: number[][] = [];
  for (const fd of fds.toSorted((one, other) => one - other)) {
    const run = runs.at(-1);
    if (run?.at(-1) === fd - 1) run.push(fd);
    else runs.push([fd]);
  }
  return runs;
}

/** O_NONBLOCK is a flag of the open file, so the change affects every process that shares it. Throws HostError. */
export function setNonBlocking(fd: number, on: boolean): void {
  const flags = must(`reading the flags of descriptor ${fd}`, 'fcntl', fd, getFlags, 0);
  const wanted = on ? flags | constants.O_NONBLOCK : flags & ~constants.O_NONBLOCK;
  if (wanted !== flags) {
    must(`setting the flags of descriptor ${fd}`, 'fcntl', fd, setFlags, wanted);
  }
}

/** An anonymous file in memory with this content, positioned at its start. Throws HostError. */
export function memfd(name: string, content: Uint8Array): number {
  const fd = must(`making the memory file ${name}`, 'memfdCreate', name, memfdCloexec);
  try {
    for (let at = 0; at < content.length; ) {
      at += writeSync(fd, content, at, content.length - at, at);
    }
    return fd;
  } catch (error) {
    closeFd(fd);
    throw hostError(`filling the memory file ${name}`, error);
  }
}

/**
 * Holds the lock file exclusively until disposed of, in this process or another; the kernel releases it when the holder
 * dies. The file is made when missing and never removed (removing it would allow two holders at once).
 */
export async function lockFile(path: string, waiting: Waiting): Promise<AsyncDisposable> {
  waiting.signal.throwIfAborted();
  // Opened for reading, so that an existing lock file works on a read-only file system as well.
  const fd = await openAside(path, constants.O_RDONLY | constants.O_CREAT | constants.O_NOFOLLOW);
  try {
    if (!(await statFile(fd)).isFile())
      throw new HostError(`${path} is not a regular file and can't be locked`);
    await lockDescriptor(fd, path, waiting);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return holdDescriptor(fd);
}

/** Locks an open file exclusively until it is closed everywhere; `name` is for the error. */
export async function lockDescriptor(fd: number, name: string, waiting: Waiting): Promise<void> {
  while (!(await tryLock(fd, name))) await pause(lockRetryMs, waiting);
}

async function tryLock(fd: number, path: string): Promise<boolean> {
  const { errno } = await attemptAside('flock', fd, lockExclusive | lockNonBlocking);
  if (errno === undefined) return true;
  if (errno === 'EAGAIN' || errno === 'EWOULDBLOCK' || errno === 'EINTR') return false;
  throw new HostError(`locking ${path}: ${errno}`, { errno });
}

function holdDescriptor(fd: number): AsyncDisposable {
  let open = true;
  return {
    async [Symbol.asyncDispose]() {
      // A second time the number may belong to another file.
      const isOpen = open;
      open = false;
      if (isOpen) await closeAside(fd);
    },
  };
}
