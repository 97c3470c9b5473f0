import type { Waiting } from '#spec';
import { KeyedQueue } from '../keyed-queue.ts';
import { attempt, attemptAside, libcError, must } from '../native/libc.ts';
import { abortable } from '../waiting.ts';
import { closeLater } from './aside.ts';
import { duplicate } from './descriptor.ts';

// The same on x86-64 and arm64: _IOW(0x94, 9, int).
const ficloneRequest = 0x40049409;
const zeroOutRequest = 0x127f;
const whenceEnd = 2;
const whenceData = 3;
const whenceHole = 4;
const fallocateKeepSize = 1;
const fallocatePunchHole = 2;

/** The errors of a file system that can't share blocks between these two files. */
const cannotClone = new Set(['EOPNOTSUPP', 'ENOTSUP', 'EXDEV', 'ENOTTY', 'EINVAL', 'ENOSYS']);

/** The errors of `copy_file_range` between two files of kinds or file systems that it does not support. */
const cannotCopy = new Set(['EOPNOTSUPP', 'ENOTSUP', 'EXDEV', 'EINVAL', 'ENOSYS', 'EPERM']);

/** One at a time: each occupies one of the few threads that do all work on files. */
const clones = new KeyedQueue();

/**
 * Makes the destination share all blocks of the source: false where the file system can't. A million extents take 26 s,
 * so it is done in a pool thread; when the signal aborts first, the kernel continues. Throws HostError.
 */
export function ficlone(destFd: number, sourceFd: number, waiting: Waiting): Promise<boolean> {
  const clone = clones.run('', () => {
    waiting.signal.throwIfAborted();
    return cloneAside(destFd, sourceFd);
  });
  return abortable(clone, waiting);
}

/** On descriptors of its own: those of the caller may be closed, and their numbers reused, before it begins. */
async function cloneAside(destFd: number, sourceFd: number): Promise<boolean> {
  const dest = duplicate(destFd);
  const source = duplicate(sourceFd);
  const { errno } = await attemptAside('ioctlNumber', dest, ficloneRequest, source).finally(() => {
    closeLater(dest);
    closeLater(source);
  });
  if (errno === undefined) return true;
  if (cannotClone.has(errno)) return false;
  throw libcError(`cloning descriptor ${sourceFd} into ${destFd}`, errno);
}

/** The size in bytes of an open file or block device. */
export async function endOf(fd: number): Promise<number> {
  const { value, errno } = await attemptAside('lseek', fd, 0, whenceEnd);
  if (errno !== undefined) throw libcError(`looking for the end of descriptor ${fd}`, errno);
  return value;
}

/** Where the next data at or after `offset` (bytes) begins; undefined when only a hole follows. */
export function seekData(fd: number, offset: number): number | undefined {
  const { value, errno } = attempt('lseek', fd, offset, whenceData);
  if (errno === undefined) return value;
  if (errno === 'ENXIO') return undefined;
  throw libcError(`looking for data in descriptor ${fd}`, errno);
}

/** The same in a thread of the pool. */
export async function seekDataAside(fd: number, offset: number): Promise<number | undefined> {
  const { value, errno } = await attemptAside('lseek', fd, offset, whenceData);
  if (errno === undefined) return value;
  if (errno === 'ENXIO') return undefined;
  throw libcError(`looking for data in descriptor ${fd}`, errno);
}

/** Where the next hole at or after `offset` (bytes) begins; the end of the file counts as one. */
export async function seekHoleAside(fd: number, offset: number): Promise<number> {
  const { value, errno } = await attemptAside('lseek', fd, offset, whenceHole);
  if (errno === undefined) return value;
  throw libcError(`looking for a hole in descriptor ${fd}`, errno);
}

/**
 * Allocates blocks for a range of a file, also beyond its end, without changing its size: later writes there succeed
 * even when the file system is full by then. Throws HostError, with ENOSPC where there is no space now.
 */
export function reserveSpace(fd: number, offset: number, length: number): void {
  must(`reserving space in descriptor ${fd}`, 'fallocate', fd, fallocateKeepSize, offset, length);
}

/** Allocates the first blocks of a file so, in a pool thread. The descriptor has to stay open until then. */
export async function allocateSpace(fd: number, length: number): Promise<void> {
  const { errno } = await attemptAside('fallocate', fd, fallocateKeepSize, 0, length);
  if (errno !== undefined) throw libcError(`allocating space in descriptor ${fd}`, errno);
}

/**
 * Copies a range of one file to the same place in another, inside of the kernel and in a pool thread. Returns the bytes that
 * were copied, fewer where the source ends or the kernel pauses; undefined where it can't copy between these two. Both
 * descriptors have to stay open until then. Throws HostError.
 */
export async function copyRange(
  sourceFd: number,
  destFd: number,
  { offset, length }: { readonly offset: number; readonly length: number },
): Promise<number | undefined> {
  // The kernel writes the new place into each: they are two.
  const [from, to] = [place(offset), place(offset)];
  const call = ['copyFileRange', sourceFd, from, destFd, to, length, 0] as const;
  const { value, errno } = await attemptAside(...call);
  if (errno === undefined) return value;
  if (cannotCopy.has(errno)) return undefined;
  throw libcError(`copying descriptor ${sourceFd} into ${destFd}`, errno);
}

function place(offset: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(offset));
  return bytes;
}

/** Returns the blocks of a range to the file system; it reads as zeros afterwards. Throws HostError. */
export function punchHole(fd: number, offset: number, length: number): void {
  if (length === 0) return;
  const mode = fallocateKeepSize | fallocatePunchHole;
  must(`punching a hole into descriptor ${fd}`, 'fallocate', fd, mode, offset, length);
}

/** Makes a range of a block device read as zeros; both numbers are multiples of 512. Throws HostError. */
export async function zeroOut(fd: number, offset: number, length: number): Promise<void> {
  const range = Buffer.alloc(16); // two 64-bit numbers: start and length
  range.writeBigUInt64LE(BigInt(offset), 0);
  range.writeBigUInt64LE(BigInt(length), 8);
  const { errno } = await attemptAside('ioctlBytes', fd, zeroOutRequest, range);
  if (errno !== undefined) throw libcError(`clearing a range of descriptor ${fd}`, errno);
}
