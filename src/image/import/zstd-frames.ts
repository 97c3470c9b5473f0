import { ImageError } from '../error.ts';
import type { ByteReader } from './byte-reader.ts';

/** What a frame may need of memory; `zstd` makes no larger one without --long or --ultra. */
const maxWindowBytes = 128 * 1024 * 1024;
const frameMark = 0xfd2fb528;
const skippableMark = 0x184d2a50;

/**
 * The frames of zstd-compressed data one by one, for Node's decompressor ends with the first one; pzstd writes many. Each has
 * to be read to its end before the next one is asked for. Throws ImageError.
 */
export async function* zstdFrames(
  reader: ByteReader,
): AsyncGenerator<AsyncGenerator<Uint8Array>, void, undefined> {
  for (;;) {
    const mark = await reader.peek(4);
    if (mark.length === 0) return;
    const magic = mark.length < 4 ? 0 : Buffer.from(mark).readUInt32LE();
    if (magic === frameMark) yield frame(reader);
    else if ((magic & ~0xf) >>> 0 === skippableMark) await skipFrame(reader);
    else throw damaged('what follows a frame is none');
  }
}

async function skipFrame(reader: ByteReader): Promise<void> {
  const head = Buffer.from(await reader.take(8));
  await reader.skip(head.readUInt32LE(4));
}

/** RFC 8878, 3.1.1: a header, blocks up to the one with the mark of the last, and a checksum. */
async function* frame(reader: ByteReader): AsyncGenerator<Uint8Array, void, undefined> {
  const { headerBytes, hasChecksum } = headerOf(await reader.peek(18));
  yield await reader.take(headerBytes);
  for (let last = false; !last; ) {
    const [low = 0, middle = 0, high = 0] = await reader.peek(3);
    const header = low | (middle << 8) | (high << 16);
    last = (header & 1) === 1;
    const kind = (header >> 1) & 3;
    // A block of one repeated byte states its length, but has that byte alone.
    let left = 3 + (kind === 1 ? 1 : header >> 3);
    while (left > 0) {
      const bytes = await reader.some(left);
      if (bytes.length === 0) return;
      left -= bytes.length;
      yield bytes;
    }
  }
  if (hasChecksum) yield await reader.take(4);
}

function headerOf(head: Uint8Array): {
  readonly headerBytes: number;
  readonly hasChecksum: boolean;
} {
  const descriptor = head[4] ?? 0;
  const isSingle = (descriptor & 0x20) !== 0;
  const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const sizeAt = 5 + (isSingle ? 0 : 1) + dictionaryBytes;
  if (sizeAt + sizeBytes > head.length) throw damaged('its header is cut');
  const window = isSingle ? contentBytes(head, sizeAt, sizeBytes) : windowBytes(head[5] ?? 0);
  if (window > maxWindowBytes) {
    throw new ImageError(
      'refused',
      `it needs ${Math.ceil(window / 2 ** 20)} MiB of memory to decompress, more than ${maxWindowBytes / 2 ** 20}: compress it without --long or --ultra`,
    );
  }
  return { headerBytes: sizeAt + sizeBytes, hasChecksum: (descriptor & 4) !== 0 };
}

function windowBytes(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function contentBytes(head: Uint8Array, at: number, length: number): number {
  const stated = head.subarray(at, at + length).reduceRight((sum, byte) => sum * 256 + byte, 0);
  return length === 2 ? stated + 256 : stated;
}

function damaged(what: string): ImageError {
  return new ImageError('refused', `it is damaged: ${what} (zstd)`);
}
