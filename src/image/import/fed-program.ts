import { closeSync, readSync, writeSync } from 'node:fs';
import { errnoOf } from '#host';
import { ImageError } from '../error.ts';
import type { Bytes } from './byte-reader.ts';
import type { Compression } from './packing.ts';

/** Our ends of a program's pipes, in non-blocking mode. The thread that started the program closes them. */
export interface ProgramPipes {
  readonly how: Compression;
  /** It reads what is written here; the beginning has been written. */
  readonly input: number;
  readonly begun: Uint8Array;
  /** What it has written is read here. */
  readonly output: number;
  /** One integer of 32 bits: 1 as soon as `input` is closed here. */
  readonly inputClosed: SharedArrayBuffer;
}

const bufferBytes = 1024 * 1024;
/** Programs write 8 KiB at once. To move each by itself would cost more than to decompress it. */
const enoughBytes = 256 * 1024;
const gatherMs = 1;

/** A program that decompresses, as the thread that feeds it has it. It holds up its thread: only for a worker. */
export class FedProgram {
  readonly how: Compression;
  readonly #pipes: ProgramPipes;
  readonly #buffer = Buffer.alloc(bufferBytes);
  readonly #never = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  #unfed: Uint8Array = new Uint8Array();
  #isFed = false;
  #begunBytes: number;
  /** It closed one of its ends. */
  hasEnded = false;

  constructor(pipes: ProgramPipes) {
    this.how = pipes.how;
    this.#pipes = pipes;
    this.#begunBytes = pipes.begun.length;
  }

  /** All bytes, those included that it has been given, decompressed. Throws ImageError where the program ends before them. */
  async *through(bytes: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
    const source = bytes[Symbol.asyncIterator]();
    for (let ended = false; !ended; ) {
      let used = 0;
      while (!ended && used < enoughBytes) {
        await this.#feed(source);
        const length = this.#read(used);
        ended = length === 0;
        used += length ?? 0;
        // Both pipes have room for far more than what comes in this time.
        if (!ended && used < enoughBytes) Atomics.wait(this.#never, 0, 0, gatherMs);
      }
      if (used > 0) yield this.#buffer.subarray(0, used);
    }
    this.hasEnded = true;
    if (!this.#isFed)
      throw new ImageError('refused', `it is damaged or not complete (${this.how})`);
  }

  /** Writes until the pipe is full, or there is nothing more to write, or nothing that reads it. */
  async #feed(source: AsyncIterator<Uint8Array, void, undefined>): Promise<void> {
    while (!this.#isFed && !this.hasEnded) {
      if (this.#unfed.length === 0) {
        const { done, value } = await source.next();
        if (done === true) return this.#endInput();
        const begun = Math.min(this.#begunBytes, value.length);
        this.#begunBytes -= begun;
        this.#unfed = value.subarray(begun);
        continue;
      }
      const written = this.#write(this.#unfed);
      if (written === undefined) return;
      this.#unfed = this.#unfed.subarray(written);
    }
  }

  #endInput(): void {
    this.#isFed = true;
    // In this order: a thread that is terminated between the two leaves a descriptor open, rather than another one closed.
    new Int32Array(this.#pipes.inputClosed)[0] = 1;
    closeSync(this.#pipes.input);
  }

  /** undefined where nothing can be written now. */
  #write(bytes: Uint8Array): number | undefined {
    try {
      return writeSync(this.#pipes.input, bytes);
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN') return undefined;
      if (errnoOf(error) !== 'EPIPE') throw error;
      this.hasEnded = true;
      return undefined;
    }
  }

  /** Reads to the buffer from there on: 0 where no more will come, undefined where there is nothing now. */
  #read(from: number): number | undefined {
    try {
      return readSync(this.#pipes.output, this.#buffer, from, bufferBytes - from, null);
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN') return undefined;
      throw error;
    }
  }
}
