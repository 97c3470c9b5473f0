import { attemptAside, libcError } from '../native/libc.ts';

const getLock = 36;
const setLock = 37;
const read = 0;
const write = 1;
const unlocked = 2;

/** The bytes by which QEMU shows that it writes to a disk, and that others may not (block/file-posix.c). */
const lockedBytes = [101, 201] as const;

/**
 * Locks an open disk for writing by the rules of QEMU, until the last descriptor of this opening is closed: one that is
 * handed to QEMU keeps the lock. false when another VM or program has it open for reading or writing. Throws HostError.
 */
export async function lockDisk(fd: number, name: string): Promise<boolean> {
  const change = async (command: number, lock: Buffer): Promise<void> => {
    const { errno } = await attemptAside('fcntlBytes', fd, command, lock);
    if (errno !== undefined) throw libcError(`locking ${name}`, errno);
  };
  // First locked, then looked at: of two that do so at once, both may fail, but never none.
  for (const byte of lockedBytes) await change(setLock, lockOf(read, byte));
  for (const byte of lockedBytes) {
    const lock = lockOf(write, byte);
    await change(getLock, lock);
    if (lock.readInt16LE(0) !== unlocked) return false;
  }
  return true;
}

/** `struct flock` for one byte of a file. */
function lockOf(type: number, byte: number): Buffer {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(type, 0);
  lock.writeBigInt64LE(BigInt(byte), 8);
  lock.writeBigInt64LE(1n, 16);
  return lock;
}
