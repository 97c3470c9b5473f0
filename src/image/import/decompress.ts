import type { Duplex } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { ImageError } from '../error.ts';
import { ByteReader, type Bytes } from './byte-reader.ts';
import { bunzip2 } from './bzip2.ts';
import type { Compression } from './packing.ts';
import { unxz } from './xz.ts';
import { zstdFrames } from './zstd-frames.ts';

const outBytes = 512 * 1024;

/**
 * Decompresses a stream, several members or frames in one included. When the caller ends early, nothing is read of the
 * stream afterwards. Throws ImageError where it is damaged or not complete.
 */
export function decompress(how: Compression, bytes: Bytes): Bytes {
  switch (how) {
    case 'gzip':
      return through(createGunzip({ chunkSize: outBytes }), bytes, how);
    case 'zstd':
      return unzstd(new ByteReader(bytes));
    case 'bzip2':
      return bunzip2(bytes);
    case 'xz':
      return unxz(bytes);
    default:
      return how satisfies never;
  }
}

async function* unzstd(reader: ByteReader): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const frame of zstdFrames(reader)) {
    yield* through(createZstdDecompress({ chunkSize: outBytes }), frame, 'zstd');
  }
}

async function* through(
  decoder: Duplex,
  bytes: Bytes,
  how: Compression,
): AsyncGenerator<Uint8Array, void, undefined> {
  // Not pipe(): it reads ahead, also when nothing is wanted any more, and the bytes may be a part of a longer stream.
  const fed = feed(decoder, bytes);
  fed.catch(() => undefined);
  try {
    for await (const piece of decoder) yield piece as Uint8Array; // it is in no object mode
    await fed;
  } catch (cause) {
    if (cause instanceof ImageError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ImageError('refused', `it is damaged or not complete: ${reason} (${how})`, { cause });
  } finally {
    decoder.destroy();
    await fed.catch(() => undefined);
  }
}

async function feed(decoder: Duplex, bytes: Bytes): Promise<void> {
  let goOn = (): void => {};
  decoder.once('close', () => goOn());
  try {
    for await (const piece of bytes) {
      if (decoder.destroyed) return;
      // Not a race with the close, which would keep something of each piece until then.
      await new Promise<void>((resolve) => {
        goOn = resolve;
        decoder.write(piece, () => resolve());
      });
    }
    decoder.end();
  } catch (error) {
    decoder.destroy(error instanceof Error ? error : new Error(String(error)));
    throw error;
  }
}
