import type { Stats } from 'node:fs';
import { ImageError } from './error.ts';

/** What a file is, with its article. */
export function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isSymbolicLink()) return 'a symbolic link';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  if (stats.isBlockDevice() || stats.isCharacterDevice()) return 'a device';
  return stats.isFile() ? 'a file' : 'a special file';
}

/** Throws ImageError where the path is something else. */
export function checkKind(path: string, stats: Stats, wanted: 'file' | 'directory'): void {
  if (wanted === 'file' ? stats.isFile() : stats.isDirectory()) return;
  const kind = kindOf(stats);
  if (wanted === 'directory') {
    throw new ImageError('refused', `${path} is ${kind}, not a directory`);
  }
  // An artifact is unpacked, or put under the name that its address ends with, into a directory unless it sets otherwise.
  const remedy = stats.isDirectory()
    ? ': name the file in it, or write mode = "file" in the artifact that fetched it'
    : '';
  throw new ImageError('refused', `${path} is ${kind}, not a regular file${remedy}`);
}
