import { closeSync, constants, fstatSync, readSync } from 'node:fs';
import { openPath, seekData } from '#host';

/**
 * The end of a growing file, or of its first `length` bytes: at most `maxBytes`, without the hole at its front that
 * trimming leaves. Throws HostError 'file' when it can't be opened.
 */
export function readTail(path: string, maxBytes: number, length?: number): Buffer {
  const fd = openPath(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const size = length ?? fstatSync(fd).size;
    const from = Math.max(seekData(fd, 0) ?? size, size - maxBytes);
    const bytes = Buffer.alloc(size - from);
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, from));
  } finally {
    closeSync(fd);
  }
}

/**
 * The last five lines of QEMU's stderr, without `warning:` lines: deprecation notices would hide the error. '' when
 * there are none.
 */
export function lastMessages(path: string): string {
  try {
    const text = readTail(path, 8192).toString('utf8').replaceAll('\0', '').trim();
    const lines = text.split('\n').filter((line) => !/: warning: /.test(line));
    return lines.slice(-5).join('\n').slice(-2000);
  } catch {
    return '';
  }
}

/** Of a part of a file, what comes after its last line feed. */
export function lastLine(fd: number, from: number, to: number): Uint8Array {
  const part = Buffer.alloc(to - from);
  const bytes = part.subarray(0, readSync(fd, part, 0, part.length, from));
  return bytes.subarray(bytes.lastIndexOf('\n') + 1);
}
