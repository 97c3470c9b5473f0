import { ByteReader, type Bytes } from './byte-reader.ts';
import { BitReader, type CodeTable, damaged, readSymbols, readTables } from './bzip2-codes.ts';

const blockMark = 0x314159265359;
const endMark = 0x177245385090;
const groupSymbols = 50;

/** Decompresses bzip2, one or more streams, after the format's description in its reference program. Throws ImageError. */
export async function* bunzip2(bytes: Bytes): AsyncGenerator<Uint8Array, void, undefined> {
  const bits = new BitReader(new ByteReader(bytes));
  for (let streams = 0; await bits.hasMore(); streams += 1) {
    if ((await bits.read(24)) !== 0x425a68) {
      // Behind the first stream the reference program ignores what is none.
      if (streams > 0) return;
      throw damaged('its mark');
    }
    const level = (await bits.read(8)) - 0x30;
    if (level < 1 || level > 9) throw damaged('its size of blocks');
    yield* streamOf(bits, level * 100_000);
    bits.align();
  }
}

async function* streamOf(bits: BitReader, maxBlock: number): AsyncGenerator<Uint8Array> {
  const block = new Uint32Array(maxBlock);
  let sum = 0;
  for (;;) {
    const mark = (await bits.read(24)) * 2 ** 24 + (await bits.read(24));
    const stated = ((await bits.read(16)) * 0x10000 + (await bits.read(16))) >>> 0;
    if (mark === endMark) {
      if (stated !== sum) throw damaged('its checksum');
      return;
    }
    if (mark !== blockMark) throw damaged('the mark of a block');
    if ((await bits.read(1)) === 1) throw damaged('a block of a kind that is obsolete');
    const start = await bits.read(24);
    // A block is at most 900 kB of symbols, whose codes of 20 bits at most are read without waiting.
    await bits.fill(maxBlock * 3 + 65_536);
    const length = decodeBlock(bits, block, maxBlock);
    if (start >= length) throw damaged('the start of a block');
    const crc = { value: -1 };
    yield* unfold(block, length, start, crc);
    const found = ~crc.value >>> 0;
    if (found !== stated) throw damaged('the checksum of a block');
    sum = (((sum << 1) | (sum >>> 31)) ^ found) >>> 0;
  }
}

/** Undoes Huffman's codes and the move to front: the block's bytes, and where each of them came from, in its upper bits. */
function decodeBlock(bits: BitReader, block: Uint32Array, maxBlock: number): number {
  const symbols = readSymbols(bits);
  const { tables, selectors } = readTables(bits, symbols.length + 2);
  const end = symbols.length + 1;
  const counts = new Uint32Array(256);
  let [length, run, weight, group, left] = [0, 0, 1, -1, 0];
  let table: CodeTable | undefined;
  for (;;) {
    if (left === 0) {
      group += 1;
      left = groupSymbols;
      table = tables[selectors[group] ?? -1];
      if (table === undefined) throw damaged('the codes of a block');
    }
    left -= 1;
    const symbol = (table as CodeTable).next(bits); // it was set with the first group
    if (symbol <= 1) {
      run += weight << symbol;
      weight *= 2;
      if (run > maxBlock) throw damaged('the length of a block');
      continue;
    }
    if (run > 0) {
      const byte = symbols[0] ?? 0;
      if (length + run > maxBlock) throw damaged('the length of a block');
      block.fill(byte, length, length + run);
      counts[byte] = (counts[byte] ?? 0) + run;
      length += run;
      run = 0;
    }
    weight = 1;
    if (symbol === end) break;
    if (length >= maxBlock) throw damaged('the length of a block');
    const byte = symbols[symbol - 1] ?? 0;
    symbols.copyWithin(1, 0, symbol - 1);
    symbols[0] = byte;
    block[length] = byte;
    counts[byte] = (counts[byte] ?? 0) + 1;
    length += 1;
  }
  link(block, length, counts);
  return length;
}

/** Undoes the sorting of Burrows and Wheeler: each place gets its follower. */
function link(block: Uint32Array, length: number, counts: Uint32Array): void {
  let total = 0;
  for (let byte = 0; byte < 256; byte += 1) {
    const count = counts[byte] ?? 0;
    counts[byte] = total;
    total += count;
  }
  for (let at = 0; at < length; at += 1) {
    const byte = (block[at] ?? 0) & 0xff;
    const to = counts[byte] ?? 0;
    counts[byte] = to + 1;
    block[to] = ((block[to] ?? 0) | (at << 8)) >>> 0;
  }
}

const outBytes = 256 * 1024;

/** Follows the block from its start, and repeats what four equal bytes and a count stand for. */
function* unfold(
  block: Uint32Array,
  length: number,
  start: number,
  crc: { value: number },
): Generator<Uint8Array, void, undefined> {
  let out = new Uint8Array(outBytes);
  let [used, sum, previous, equal] = [0, crc.value, -1, 0];
  let place = (block[start] ?? 0) >>> 8;
  for (let left = length; left > 0; left -= 1) {
    const entry = block[place] ?? 0;
    place = entry >>> 8;
    let [byte, count] = [entry & 0xff, 1];
    if (equal === 4) {
      [byte, count] = [previous, byte];
      [previous, equal] = [-1, 0];
    } else {
      equal = byte === previous ? equal + 1 : 1;
      previous = byte;
    }
    for (; count > 0; count -= 1) {
      out[used] = byte;
      used += 1;
      sum = (sum << 8) ^ (crcTable[(sum >>> 24) ^ byte] ?? 0);
    }
    if (used < outBytes - 256) continue;
    yield out.subarray(0, used);
    out = new Uint8Array(outBytes);
    used = 0;
  }
  crc.value = sum;
  if (used > 0) yield out.subarray(0, used);
}

const crcTable = Int32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte << 24;
  for (let bit = 0; bit < 8; bit += 1) sum = sum < 0 ? (sum << 1) ^ 0x04c11db7 : sum << 1;
  return sum;
});
