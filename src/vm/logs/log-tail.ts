import { closeSync, constants, fstatSync, readSync } from 'node:fs';
import { openPath, seekData } from '#host';

/**
 * The end of a file that grows: its last `mostBytes` at most, and nothing of the hole that is left at its front where
 * somebody bounded it. Throws HostError for one that can't be opened.
 */
export function readTail(path: string, mostBytes: number): Buffer {
  const fd = openPath(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size } = fstatSync(fd);
    const from = Math.max(seekData(fd, 0) ?? size, size - mostBytes);
    const bytes = Buffer.alloc(size - from);
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, from));
  } finally {
    closeSync(fd);
  }
}

/** The last lines of QEMU's own messages, '' when it said nothing. Warnings, of options it will not know one day, are no such words. */
export function lastWords(path: string): string {
  try {
    const text = readTail(path, 8192).toString('utf8').replaceAll('\0', '').trim();
    const lines = text.split('\n').filter((line) => !/: warning: /.test(line));
    return lines.slice(-5).join('\n').slice(-2000);
  } catch {
    return '';
  }
}
