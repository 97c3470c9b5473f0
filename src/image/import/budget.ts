import { ImageError } from '../error.ts';
import type { Bytes } from './byte-reader.ts';

/** Bytes, members and nesting that one import may take, whatever is in it. */
const maxMembers = 20_000;
/** Compression in compression, archive in archive: an image of an OCI archive has four, with a compressed disk five. */
const maxDepth = 6;
/** The best compressors take 32768:1 of zeros (zstd) and 7000:1 (xz); bzip2 more, of which the allowance is enough. */
const maxRatio = 100_000;
const allowanceBytes = 256 * 1024 * 1024;

/** What an import has taken so far. */
export class Budget {
  readonly #maxUnpackedBytes: number;
  #members = 0;
  #unpackedBytes = 0;
  /** Of the source. */
  readBytes = 0;

  constructor({ maxBytes }: { readonly maxBytes: number }) {
    // An archive may have other files beside the disk, and each of two compressions counts.
    this.#maxUnpackedBytes = 4 * maxBytes + allowanceBytes;
  }

  addMember(): void {
    this.#members += 1;
    if (this.#members > maxMembers) throw refused(`it has more than ${maxMembers} files`);
  }

  checkDepth(depth: number): void {
    if (depth > maxDepth) {
      throw refused(`it is packed into more than ${maxDepth} compressions and archives`);
    }
  }

  /** Counts what comes out of a decompressor. */
  async *counted(bytes: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const piece of bytes) {
      this.#unpackedBytes += piece.length;
      if (this.#unpackedBytes > this.#maxUnpackedBytes) {
        throw refused(`it has more than ${this.#maxUnpackedBytes} bytes when it is decompressed`);
      }
      if (this.#unpackedBytes > allowanceBytes + maxRatio * this.readBytes) {
        throw refused(`it is compressed by more than ${maxRatio}:1`);
      }
      yield piece;
    }
  }
}

function refused(what: string): ImageError {
  return new ImageError('refused', what);
}
