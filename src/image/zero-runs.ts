import type { Hash } from 'node:crypto';

/** Aligned runs of zeros of this size become holes. */
export const zeroBytes = 64 * 1024;
const zeros = Buffer.alloc(zeroBytes);
const place = Buffer.alloc(8);

/** The parts of a chunk that are not runs of zeros. */
export function runsOfData(
  chunk: Buffer,
): readonly { readonly start: number; readonly end: number }[] {
  const runs: { start: number; end: number }[] = [];
  for (let start = 0; start < chunk.length; start += zeroBytes) {
    const end = Math.min(start + zeroBytes, chunk.length);
    if (chunk.compare(zeros, 0, end - start, start, end) === 0) continue;
    const last = runs.at(-1);
    if (last?.end === start) last.end = end;
    else runs.push({ start, end });
  }
  return runs;
}

/**
 * Adds data to the checksum of a file without its holes: each block of this size that is not zero, behind its place. `offset` is
 * that of the data, which begins with a block.
 */
export function updatePlaced(hash: Hash, data: Uint8Array, offset: number): void {
  for (let at = 0; at < data.length; at += zeroBytes) {
    place.writeBigUInt64LE(BigInt(offset + at));
    hash.update(place);
    hash.update(data.subarray(at, at + zeroBytes));
  }
}
