import { sniff, sniffBytes } from '../sniff.ts';

/** What is around a disk's bytes, by the content of the file only. */
export type Packing = 'none' | 'gzip' | 'xz' | 'zstd' | 'bzip2' | 'tar';

export type Compression = Exclude<Packing, 'none' | 'tar'>;

/** Bytes from the start of a file that `packingOf` needs; fewer for a shorter file. */
export const headBytes = sniffBytes;

/** Recognises a packing by its mark. */
export function packingOf(head: Uint8Array): Packing {
  if (isSkippableFrame(head)) return 'zstd';
  const format = sniff(head);
  switch (format) {
    case 'gzip':
    case 'xz':
    case 'zstd':
    case 'tar':
      return format;
    case 'bzip2':
      return isBzip2(head) ? format : 'none';
    default:
      return 'none';
  }
}

/** Whether a file with these first 4 KiB has to go through `unpack`. */
export function isPacked(head: Uint8Array): boolean {
  return packingOf(head) !== 'none';
}

/** A file that begins with a zstd frame to be skipped, as pzstd writes them: 0x184D2A50 … 0x184D2A5F. */
function isSkippableFrame(head: Uint8Array): boolean {
  const [first = 0] = head;
  return first >> 4 === 0x5 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18;
}

/** `BZh`, the size of its blocks, and the mark of a block or of the end. */
function isBzip2(head: Uint8Array): boolean {
  const [level = 0, mark = 0] = [head[3], head[4]];
  return level >= 0x31 && level <= 0x39 && (mark === 0x31 || mark === 0x17);
}
