import { ImageError } from '../error.ts';
import type { ByteReader } from './byte-reader.ts';
import { decimal, tarNumber } from './tar-number.ts';

/** A part of a sparse file that is stored; what is between two of them is a hole. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
}

/** Maximum of stored parts of a file. */
const maxExtents = 1_000_000;
const blockBytes = 512;
const maxDigits = 20;

/** Checks what a file is made of: parts in their order, inside the file, and as many bytes as are stored. */
export function checkMap(
  extents: readonly Extent[],
  fileBytes: number,
  storedBytes: number,
): readonly Extent[] {
  let [end, stored] = [0, 0];
  for (const { offset, length } of extents) {
    if (offset < end) throw refused('parts that overlap or are not in their order');
    end = offset + length;
    if (!(end <= fileBytes)) throw refused('a part behind its end');
    stored += length;
  }
  if (stored !== storedBytes) throw refused(`${stored} bytes in parts but ${storedBytes} stored`);
  return extents;
}

/** A map of old GNU tar: four parts in the header (at 386), 21 in each block that follows as long as a flag is set. */
export async function readGnuMap(header: Uint8Array, reader: ByteReader): Promise<Extent[]> {
  const extents: Extent[] = [];
  let more = addGnuExtents(extents, header.subarray(386, 386 + 4 * 24)) && header[482] === 1;
  // The blocks are there until the flag ends, also behind the last part.
  for (let extended = header[482] === 1; extended; ) {
    const block = await reader.take(blockBytes);
    more = more && addGnuExtents(extents, block.subarray(0, 21 * 24));
    extended = block[504] === 1;
    if (extended && !more) throw refused('a map that goes on behind its end');
    if (extents.length > maxExtents) throw tooMany();
  }
  return extents;
}

/** The file's size in a sparse header of old GNU tar. */
export function gnuFileBytes(header: Uint8Array): number {
  return tarNumber(header.subarray(483, 495));
}

function addGnuExtents(extents: Extent[], entries: Uint8Array): boolean {
  for (let at = 0; at < entries.length; at += 24) {
    if (entries[at + 12] === 0) return false;
    const offset = tarNumber(entries.subarray(at, at + 12));
    extents.push({ offset, length: tarNumber(entries.subarray(at + 12, at + 24)) });
  }
  return true;
}

/** A map of PAX 1.0: lines of decimal numbers in front of the content, filled up to a block. */
export async function readPaxMap(
  reader: ByteReader,
  storedBytes: number,
): Promise<{ readonly extents: readonly Extent[]; readonly mapBytes: number }> {
  let block: Uint8Array = new Uint8Array();
  let [at, mapBytes] = [0, 0];
  const next = async (): Promise<number> => {
    let digits = '';
    for (;;) {
      if (at === block.length) {
        if (mapBytes + blockBytes > storedBytes) throw refused('a map that is longer than it');
        block = Buffer.from(await reader.take(blockBytes));
        mapBytes += blockBytes;
        at = 0;
      }
      const byte = block[at] ?? 0;
      at += 1;
      if (byte === 0x0a) return decimal(digits);
      digits += String.fromCharCode(byte);
      if (digits.length > maxDigits) throw refused('a number that is too long in its map');
    }
  };
  const count = await next();
  if (count > maxExtents) throw tooMany();
  const extents: Extent[] = [];
  while (extents.length < count) extents.push({ offset: await next(), length: await next() });
  return { extents, mapBytes };
}

/** The parts of PAX 0.0, a record for each number, and of 0.1, all in one. */
export function paxExtents(
  records: readonly (readonly [key: string, value: string])[],
): readonly Extent[] {
  const numbers: number[] = [];
  for (const [key, value] of records) {
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
      const isOffset = key === 'GNU.sparse.offset';
      if (isOffset !== (numbers.length % 2 === 0)) throw refused('a map without pairs');
      numbers.push(decimal(value));
    } else if (key === 'GNU.sparse.map' && value !== '') {
      numbers.push(...value.split(',', 2 * maxExtents + 2).map(decimal));
    }
    if (numbers.length > 2 * maxExtents) throw tooMany();
  }
  if (numbers.length % 2 === 1) throw refused('a map without pairs');
  const extents: Extent[] = [];
  for (let at = 0; at < numbers.length; at += 2) {
    extents.push({ offset: numbers[at] ?? 0, length: numbers[at + 1] ?? 0 });
  }
  return extents;
}

function tooMany(): ImageError {
  return refused(`more than ${maxExtents} parts`);
}

function refused(what: string): ImageError {
  return new ImageError('refused', `a sparse file in the archive has ${what}`);
}
