const separator = '\x1e';
/** `:` and an exit code, or `@` and a terminal's number, 0 for a command without one. */
const form = /^([:@])(\d{1,3})$/;
const maxTextBytes = 4;
const semicolon = 0x3b;

/** What the script in the guest reports between a command's own output. */
export type Mark =
  | { readonly kind: 'ended'; readonly code: number }
  | { readonly kind: 'begun'; readonly terminal: number };

/** The beginning of every mark of one session, whose id is not guessable. */
export function markPrefix(session: string): string {
  return `${separator}${session}`;
}

/**
 * Separates one stream of a command into its output and the marks. Keeps back no more than what may be the beginning of
 * a mark. What only looks like one is output.
 */
export class MarkReader {
  readonly #prefix: Buffer;
  #held: Buffer = Buffer.alloc(0);

  constructor(session: string) {
    this.#prefix = Buffer.from(markPrefix(session), 'latin1');
  }

  *push(chunk: Uint8Array): Generator<Uint8Array | Mark, void, undefined> {
    let rest = this.#held.length === 0 ? asBuffer(chunk) : Buffer.concat([this.#held, chunk]);
    this.#held = rest.subarray(0, 0);
    for (;;) {
      const at = rest.indexOf(this.#prefix);
      if (at < 0) break;
      if (at > 0) yield rest.subarray(0, at);
      rest = rest.subarray(at);
      const text = rest.subarray(this.#prefix.length, this.#prefix.length + maxTextBytes + 1);
      const end = text.indexOf(semicolon);
      if (end < 0 && text.length <= maxTextBytes) {
        this.#hold(rest);
        return;
      }
      const mark = markOf(text.toString('latin1', 0, Math.max(0, end)));
      const length = mark === undefined ? this.#prefix.length : this.#prefix.length + end + 1;
      yield mark ?? rest.subarray(0, length);
      rest = rest.subarray(length);
    }
    const kept = this.#beginning(rest);
    if (kept > 0) yield rest.subarray(0, kept);
    this.#hold(rest.subarray(kept));
  }

  /** What was kept back when the stream has ended. */
  rest(): Uint8Array {
    return this.#held;
  }

  /** Where a beginning of the prefix at the end of the bytes starts. */
  #beginning(bytes: Buffer): number {
    const from = Math.max(0, bytes.length - this.#prefix.length + 1);
    for (let at = bytes.indexOf(separator, from); at >= 0; at = bytes.indexOf(separator, at + 1)) {
      if (this.#prefix.subarray(0, bytes.length - at).equals(bytes.subarray(at))) return at;
    }
    return bytes.length;
  }

  /** A copy: the chunk around it may be large. */
  #hold(bytes: Buffer): void {
    this.#held = Buffer.from(bytes);
  }
}

function markOf(text: string): Mark | undefined {
  const [, kind, digits] = form.exec(text) ?? [];
  if (kind === undefined) return undefined;
  const number = Number(digits);
  return kind === ':' ? { kind: 'ended', code: number } : { kind: 'begun', terminal: number };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
