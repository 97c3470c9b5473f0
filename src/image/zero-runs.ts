/** Aligned runs of zeros of this size become holes. */
const zeroBytes = 64 * 1024;
const zeros = Buffer.alloc(zeroBytes);

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
