import { createHash, type Hash } from 'node:crypto';
import { ftruncateSync, writeSync } from 'node:fs';
import { ImageError } from '../error.ts';
import { runsOfData, updatePlaced } from '../zero-runs.ts';

/** Where a disk's bytes go. */
export interface Sink {
  /** Begins anew, with an empty file. */
  begin(): void;
  /** Bytes at a place behind all others. Throws ImageError beyond the maximum of the file's size. */
  write(at: number, bytes: Uint8Array): void;
  /** The file has this size; what was not written is zeros. */
  end(fileBytes: number): void;
}

const bufferBytes = 1024 * 1024;
const zeros = Buffer.alloc(bufferBytes);

/** A file that gets its holes back, with its checksum without them, and that of all of its bytes if asked for. It holds up its thread: only for a worker. */
export class DiskSink implements Sink {
  readonly #fd: number;
  readonly #maxBytes: number;
  readonly #hashed: boolean;
  readonly #buffer = Buffer.alloc(bufferBytes);
  #hash: Hash | undefined;
  #content: Hash = createHash('sha256');
  /** What the buffer holds, from this place in the file on; places are multiples of its size, so that runs are aligned. */
  #base = 0;
  #used = 0;
  fileBytes = 0;

  constructor(
    fd: number,
    { maxBytes, hashed }: { readonly maxBytes: number; readonly hashed: boolean },
  ) {
    this.#fd = fd;
    this.#maxBytes = maxBytes;
    this.#hashed = hashed;
  }

  begin(): void {
    ftruncateSync(this.#fd, 0);
    if (this.#hashed) this.#hash = createHash('sha256');
    this.#content = createHash('sha256');
    [this.#base, this.#used] = [0, 0];
  }

  write(at: number, bytes: Uint8Array): void {
    checkDiskSize(at + bytes.length, this.#maxBytes);
    this.#advance(at);
    for (let done = 0; done < bytes.length; ) {
      const part = bytes.subarray(done, done + bufferBytes - this.#used);
      this.#buffer.set(part, this.#used);
      this.#used += part.length;
      done += part.length;
      if (this.#used === bufferBytes) this.#flush();
    }
  }

  end(fileBytes: number): void {
    checkDiskSize(fileBytes, this.#maxBytes);
    this.#advance(fileBytes);
    this.#flush();
    ftruncateSync(this.#fd, fileBytes);
    this.fileBytes = fileBytes;
  }

  /** The checksum, without holes, of the file that was ended. */
  content(): string {
    return this.#content.digest('hex');
  }

  /** The checksum of the file that was ended, if it was asked for. */
  sha256(): string | undefined {
    return this.#hash?.digest('hex');
  }

  /** Zeros up to a place: as they come in the buffer, and by whole buffers without any copying. */
  #advance(to: number): void {
    while (this.#base + this.#used < to) {
      const left = to - this.#base - this.#used;
      if (this.#used === 0 && left >= bufferBytes) {
        this.#hash?.update(zeros);
        this.#base += bufferBytes;
        continue;
      }
      const end = Math.min(bufferBytes, this.#used + left);
      this.#buffer.fill(0, this.#used, end);
      this.#used = end;
      if (end === bufferBytes) this.#flush();
    }
  }

  #flush(): void {
    const bytes = this.#buffer.subarray(0, this.#used);
    this.#hash?.update(bytes);
    for (const { start, end } of runsOfData(bytes)) {
      updatePlaced(this.#content, bytes.subarray(start, end), this.#base + start);
      for (let at = start; at < end; ) {
        at += writeSync(this.#fd, bytes, at, end - at, this.#base + at);
      }
    }
    this.#base += this.#used;
    this.#used = 0;
  }
}

/** Throws ImageError `refused` for a disk file that is larger than it may be. */
export function checkDiskSize(bytes: number, maxBytes: number): void {
  if (bytes <= maxBytes) return;
  throw new ImageError('refused', `the disk in it is larger than the ${maxBytes} bytes allowed`);
}
