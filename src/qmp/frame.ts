import { QmpError } from './error.ts';

const lineFeed = 0x0a;

/** Maximum bytes of a line. The longest regular answer, the schema of QEMU 7.2, has 207 KB. */
export const maxLineBytes = 1024 * 1024;

/** Buffer size that is kept between lines; a larger buffer is freed. */
const keptBytes = 64 * 1024;

/**
 * Cuts QEMU's output into JSON texts: one per line, ended by CR LF. Keeps only the unfinished line. Iterating over
 * `push` throws QmpError `protocol` on a line that is too long or not UTF-8, after the good lines before it; the
 * reader can't be used after that.
 */
export class FrameReader {
  readonly #maxBytes: number;
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #held = new Uint8Array(0);
  #bytes = 0;

  constructor(options: { readonly maxBytes: number } = { maxBytes: maxLineBytes }) {
    this.#maxBytes = options.maxBytes;
  }

  /** Whether the input so far ends inside a line. */
  get unfinished(): boolean {
    return this.#bytes > 0;
  }

  /** The texts that this chunk completes, in order; blank lines are left out. To be iterated to the end. */
  *push(chunk: Uint8Array): Generator<string, void, undefined> {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(lineFeed, start);
      if (end < 0) break;
      const text = this.#finish(chunk.subarray(start, end));
      if (text !== '') yield text;
      start = end + 1;
    }
    this.#hold(chunk.subarray(start));
  }

  #finish(tail: Uint8Array): string {
    if (this.#bytes === 0) {
      this.#check(tail.length);
      return this.#decode(tail);
    }
    this.#hold(tail);
    const line = this.#held.subarray(0, this.#bytes);
    this.#bytes = 0;
    if (this.#held.length > keptBytes) this.#held = new Uint8Array(0);
    return this.#decode(line);
  }

  // One buffer that doubles, not a list of chunks: a peer that sends single bytes would make that list enormous.
  #hold(part: Uint8Array): void {
    const bytes = this.#bytes + part.length;
    this.#check(bytes);
    if (bytes > this.#held.length) {
      const larger = new Uint8Array(Math.max(bytes, this.#held.length * 2));
      larger.set(this.#held.subarray(0, this.#bytes));
      this.#held = larger;
    }
    this.#held.set(part, this.#bytes);
    this.#bytes = bytes;
  }

  #check(bytes: number): void {
    if (bytes > this.#maxBytes) {
      throw new QmpError('protocol', `a line from QEMU is longer than ${this.#maxBytes} bytes`);
    }
  }

  #decode(line: Uint8Array): string {
    // A chunk may hold tens of thousands of empty lines.
    if (line.length === 0) return '';
    try {
      return this.#decoder.decode(line).trim();
    } catch (cause) {
      throw new QmpError('protocol', 'a line from QEMU is not UTF-8', { cause });
    }
  }
}

/**
 * A command as text. Without a line end, which QEMU does not need and does not read: after `quit` it would still lie
 * in QEMU's socket, and the kernel would report the close as ECONNRESET instead of an end.
 */
export function formatCommand(command: string, parameters: object, id: number): string {
  return JSON.stringify({ execute: command, arguments: parameters, id });
}
