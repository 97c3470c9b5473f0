import { ImageError } from '../error.ts';
import { type ByteReader, truncated } from './byte-reader.ts';

const maxCodeBits = 20;

/** The byte values that occur in a block, in their order. */
export function readSymbols(bits: BitReader): Uint8Array {
  const ranges = bits.now(16);
  const found: number[] = [];
  for (let range = 0; range < 16; range += 1) {
    if (((ranges >> (15 - range)) & 1) === 0) continue;
    const used = bits.now(16);
    for (let at = 0; at < 16; at += 1) {
      if (((used >> (15 - at)) & 1) === 1) found.push(range * 16 + at);
    }
  }
  if (found.length === 0) throw damaged('a block without bytes');
  return Uint8Array.from(found);
}

/** The tables of codes of a block, and which of them each group of symbols uses. */
export function readTables(
  bits: BitReader,
  symbolCount: number,
): { readonly tables: readonly CodeTable[]; readonly selectors: Uint8Array } {
  const count = bits.now(3);
  const selectors = new Uint8Array(bits.now(15));
  if (count < 2 || count > 6 || selectors.length === 0) throw damaged('the codes of a block');
  const order = [0, 1, 2, 3, 4, 5].slice(0, count);
  for (let at = 0; at < selectors.length; at += 1) {
    let index = 0;
    while (bits.now(1) === 1) index += 1;
    if (index >= count) throw damaged('the codes of a block');
    const [chosen = 0] = order.splice(index, 1);
    order.unshift(chosen);
    selectors[at] = chosen;
  }
  const tables = order.map(() => new CodeTable(readLengths(bits, symbolCount)));
  return { tables, selectors };
}

function readLengths(bits: BitReader, symbolCount: number): Uint8Array {
  const lengths = new Uint8Array(symbolCount);
  let length = bits.now(5);
  for (let symbol = 0; symbol < symbolCount; symbol += 1) {
    while (bits.now(1) === 1) {
      length += bits.now(1) === 1 ? -1 : 1;
      if (length < 1 || length > maxCodeBits) break;
    }
    if (length < 1 || length > maxCodeBits) throw damaged('the length of a code');
    lengths[symbol] = length;
  }
  return lengths;
}

/** Huffman's codes in their canonical form. */
export class CodeTable {
  /** By length: the first code that is longer, aligned to the left of 20 bits; and what turns a code into its place. */
  readonly #limits = new Int32Array(maxCodeBits + 2);
  readonly #bases = new Int32Array(maxCodeBits + 2);
  readonly #symbols: Uint16Array;
  readonly #minBits: number;

  constructor(lengths: Uint8Array) {
    const byLength = Array.from(lengths.keys()).toSorted(
      (one, other) => (lengths[one] ?? 0) - (lengths[other] ?? 0) || one - other,
    );
    this.#symbols = Uint16Array.from(byLength);
    this.#minBits = lengths[byLength[0] ?? 0] ?? 1;
    let [code, place] = [0, 0];
    for (let length = 1; length <= maxCodeBits; length += 1) {
      const count = lengths.reduce((sum, it) => sum + (it === length ? 1 : 0), 0);
      this.#bases[length] = place - code;
      code += count;
      place += count;
      this.#limits[length] = code;
      code <<= 1;
    }
  }

  next(bits: BitReader): number {
    let length = this.#minBits;
    let code = bits.now(length);
    while (code >= (this.#limits[length] ?? 0)) {
      length += 1;
      if (length > maxCodeBits) throw damaged('a code');
      code = (code << 1) | bits.now(1);
    }
    const symbol = this.#symbols[code + (this.#bases[length] ?? 0)];
    if (symbol === undefined) throw damaged('a code');
    return symbol;
  }
}

/** Bits from the highest to the lowest, of bytes that are held at once where no wait is possible. */
export class BitReader {
  readonly #reader: ByteReader;
  #bytes: Uint8Array = new Uint8Array();
  #at = 0;
  #held = 0;
  #count = 0;

  constructor(reader: ByteReader) {
    this.#reader = reader;
  }

  /** Holds at least that many bytes, or all that are left. */
  async fill(length: number): Promise<void> {
    const left = this.#bytes.length - this.#at;
    if (left >= length) return;
    await this.#reader.skip(this.#at);
    this.#at = 0;
    // More than needed, so that it is not done again for each block.
    this.#bytes = await this.#reader.peek(2 * length);
  }

  async hasMore(): Promise<boolean> {
    await this.fill(1);
    return this.#at < this.#bytes.length;
  }

  async read(count: number): Promise<number> {
    await this.fill(8);
    return this.now(count);
  }

  /** At most 24 bits of what is held. Throws ImageError where it ends. */
  now(count: number): number {
    while (this.#count < count) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) throw truncated();
      this.#at += 1;
      this.#held = ((this.#held << 8) | byte) >>> 0;
      this.#count += 8;
    }
    this.#count -= count;
    return (this.#held >>> this.#count) & ((1 << count) - 1);
  }

  /** To the next whole byte. */
  align(): void {
    this.#count -= this.#count % 8;
  }
}

export function damaged(what: string): ImageError {
  return new ImageError('refused', `it is damaged: ${what} is not valid (bzip2)`);
}
