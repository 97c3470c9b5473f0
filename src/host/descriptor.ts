import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { errnoOf, HostError, hostError } from './error.ts';
import { attempt, must } from './libc.ts';
import { pause, type Waiting } from './waiting.ts';

// Kernel numbers that are the same on x86-64 and arm64; those that differ (O_NOFOLLOW, O_DIRECTORY) come from Node.
const oCloexec = 0o2000000;
/** O_PATH, which Node has no name for: stands for a file without opening it, so nothing happens to a device or FIFO. */
export const pathOnly = 0o10000000;
const sysOpenat2 = 437;
const resolveBeneath = 0x08;
const getFlags = 3;
const setFlags = 4;
const memfdCloexec = 1;
const lockExclusive = 2;
const lockNonBlocking = 4;
const lockRetryMs = 5;

/**
 * Opens a path; the descriptor does not pass to programs unless it is handed to them. A FIFO opened with
 * O_RDWR | O_NONBLOCK never blocks. `mode` (octal, before the umask) is for O_CREAT. Throws HostError.
 */
export function openPath(path: string, flags: number, mode = 0o600): number {
  try {
    return openSync(path, flags, mode); // libuv adds O_CLOEXEC
  } catch (error) {
    throw hostError(`opening ${path}`, error);
  }
}

/** Opens for use what a descriptor stands for, whatever has its name by now. Throws HostError. */
export function reopen(fd: number, flags: number): number {
  return openPath(`/proc/self/fd/${fd}`, flags);
}

/**
 * Opens `relative` below the directory `rootFd`. Links inside are followed as long as no step of the way leaves the
 * directory; one that does is EXDEV (openat2 with RESOLVE_BENEATH, Linux 5.6). Throws HostError.
 */
export function openBeneath(rootFd: number, relative: string, flags: number): number {
  const how = Buffer.alloc(24); // struct open_how: flags, mode, resolve, 64 bits each
  how.writeBigUInt64LE(BigInt(flags | oCloexec), 0);
  how.writeBigUInt64LE(BigInt(flags & constants.O_CREAT ? 0o600 : 0), 8);
  how.writeBigUInt64LE(BigInt(resolveBeneath), 16);
  if (relative.includes('\0')) throw new HostError('opening a name with a NUL byte in it');
  const what = `opening ${relative} inside the allowed directory`;
  // EAGAIN: a rename elsewhere raced with a ".." of the walk, and the kernel asks to be asked again.
  for (let tries = 0; ; tries += 1) {
    const args = [sysOpenat2, rootFd, relative, how, how.length] as const;
    if (tries >= 10) return must(what, 'syscallOpenat2', ...args);
    const { value, errno } = attempt('syscallOpenat2', ...args);
    if (errno === undefined) return value;
    if (errno !== 'EAGAIN') throw new HostError(`${what}: ${errno}`, { errno });
  }
}

/** Closes a descriptor; fine when it is closed already. */
export function closeFd(fd: number): void {
  try {
    closeSync(fd);
  } catch (error) {
    if (errnoOf(error) !== 'EBADF') throw hostError(`closing descriptor ${fd}`, error);
  }
}

/** O_NONBLOCK belongs to the open file, so every process that shares it sees the change. Throws HostError. */
export function setNonBlocking(fd: number, on: boolean): void {
  const flags = must(`reading the flags of descriptor ${fd}`, 'fcntl', fd, getFlags, 0);
  const wanted = on ? flags | constants.O_NONBLOCK : flags & ~constants.O_NONBLOCK;
  if (wanted !== flags) {
    must(`setting the flags of descriptor ${fd}`, 'fcntl', fd, setFlags, wanted);
  }
}

/** An unnamed file in memory with this content, positioned at its start. Throws HostError. */
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
 * Holds the lock file until disposed of: against every other holder, in this process or another; the kernel lets go
 * when the holder dies. The file is made when missing and never removed (removing it would let two hold "the" lock).
 */
export async function lockFile(path: string, waiting: Waiting): Promise<AsyncDisposable> {
  waiting.signal.throwIfAborted();
  // Only read, so that a lock which is there can be had on a read-only file system, too.
  const fd = openPath(path, constants.O_RDONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    if (!fstatSync(fd).isFile()) throw new HostError(`${path} is no file to lock`);
    while (!tryLock(fd, path)) await pause(lockRetryMs, waiting);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return holdDescriptor(fd);
}

function tryLock(fd: number, path: string): boolean {
  const { errno } = attempt('flock', fd, lockExclusive | lockNonBlocking);
  if (errno === undefined) return true;
  if (errno === 'EAGAIN' || errno === 'EWOULDBLOCK' || errno === 'EINTR') return false;
  throw new HostError(`locking ${path}: ${errno}`, { errno });
}

function holdDescriptor(fd: number): AsyncDisposable {
  let open = true;
  return {
    async [Symbol.asyncDispose]() {
      // The number may already belong to someone else the second time.
      if (open) closeFd(fd);
      open = false;
    },
  };
}
