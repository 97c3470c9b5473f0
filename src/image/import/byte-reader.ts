import { ImageError } from '../error.ts';

/** Bytes that come in pieces of any length. A piece is valid until the next one is asked for. */
export type Bytes = AsyncIterable<Uint8Array, void, undefined>;

/** Reads a stream in parts of the length that is asked for. What is not used yet is kept: at most one piece and a part. */
export class ByteReader {
  readonly #pieces: AsyncIterator<Uint8Array, void, undefined>;
  #rest: Uint8Array = new Uint8Array();

  constructor(bytes: Bytes) {
    this.#pieces = bytes[Symbol.asyncIterator]();
  }

  /** The next bytes, without taking them; fewer only where the stream ends. */
  async peek(length: number): Promise<Uint8Array> {
    let held = this.#rest.length;
    if (held < length) {
      const parts = [Buffer.from(this.#rest)];
      while (held < length) {
        const { done, value } = await this.#pieces.next();
        if (done === true) break;
        parts.push(Buffer.from(value));
        held += value.length;
      }
      this.#rest = Buffer.concat(parts);
    }
    return this.#rest.subarray(0, length);
  }

  /** Takes exactly that many bytes, which have to fit into memory. Throws ImageError where the stream ends before. */
  async take(length: number): Promise<Uint8Array> {
    const bytes = await this.peek(length);
    if (bytes.length < length) throw truncated();
    this.#rest = this.#rest.subarray(length);
    return bytes;
  }

  /** Takes some of the next bytes, at most `max`; none where the stream ends. */
  async some(max: number): Promise<Uint8Array> {
    while (this.#rest.length === 0) {
      const { done, value } = await this.#pieces.next();
      if (done === true) return new Uint8Array();
      this.#rest = value;
    }
    const bytes = this.#rest.subarray(0, max);
    this.#rest = this.#rest.subarray(bytes.length);
    return bytes;
  }

  async skip(length: number): Promise<void> {
    for (let left = length; left > 0; ) {
      const { length: skipped } = await this.some(left);
      if (skipped === 0) throw truncated();
      left -= skipped;
    }
  }

  /** All that follows. */
  async *rest(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const bytes = await this.some(Number.MAX_SAFE_INTEGER);
      if (bytes.length === 0) return;
      yield bytes;
    }
  }

  /** Reads to the end. */
  async drain(): Promise<void> {
    while ((await this.some(Number.MAX_SAFE_INTEGER)).length > 0);
  }

  /** Ends the stream, wherever it is. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }
}

export function truncated(): ImageError {
  return new ImageError('refused', 'it ends too early: the file is not complete');
}
