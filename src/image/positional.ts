import { read, write } from 'node:fs';
import { promisify } from 'node:util';

const readAsync = promisify(read);
const writeAsync = promisify(write);

/**
 * Fills the buffer from `offset` in the file, off the event loop. The result is the part that was filled: shorter only
 * where the file ends.
 */
export async function readAt(fd: number, buffer: Uint8Array, offset: number): Promise<Uint8Array> {
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await readAsync(
      fd,
      buffer,
      filled,
      buffer.length - filled,
      offset + filled,
    );
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

/** Writes all of the bytes at `offset` in the file, off the event loop. */
export async function writeAt(fd: number, bytes: Uint8Array, offset: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const { bytesWritten } = await writeAsync(
      fd,
      bytes,
      written,
      bytes.length - written,
      offset + written,
    );
    written += bytesWritten;
  }
}
