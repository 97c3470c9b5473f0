const continuation = 0x80;
/** First bytes of letters of two, three and four bytes in UTF-8, and the first byte that begins none. */
const firstOf = { two: 0xc2, three: 0xe0, four: 0xf0, none: 0xf5 };
const maxBytes = 4;

export type Chunks = AsyncGenerator<Uint8Array, void, undefined>;

/**
 * The same bytes in chunks that end with whole letters. What begins one is kept back until `hasMore` reports whether more
 * has come: it may be of another character set, or of none.
 */
export async function* wholeLetters(chunks: Chunks, hasMore: () => Promise<boolean>): Chunks {
  let begun: Uint8Array = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const bytes = begun.length === 0 ? chunk : Buffer.concat([begun, chunk]);
    const whole = bytes.length - begunLetter(bytes);
    if (whole > 0) yield bytes.subarray(0, whole);
    begun = bytes.subarray(whole);
    if (begun.length === 0 || (await hasMore())) continue;
    yield begun;
    begun = begun.subarray(0, 0);
  }
  if (begun.length > 0) yield begun;
}

/** How many bytes at the end are the beginning of a letter in UTF-8 whose rest is not there yet. */
function begunLetter(bytes: Uint8Array): number {
  for (let count = 1; count < maxBytes && count <= bytes.length; count += 1) {
    const byte = bytes.at(-count) ?? 0;
    if ((byte & 0xc0) !== continuation) return lengthOf(byte) > count ? count : 0;
  }
  return 0;
}

function lengthOf(first: number): number {
  if (first < firstOf.two || first >= firstOf.none) return 1;
  if (first < firstOf.three) return 2;
  return first < firstOf.four ? 3 : maxBytes;
}
