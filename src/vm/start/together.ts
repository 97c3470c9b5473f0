/**
 * Runs pieces of a start at the same time and throws the first one's error. Waits for all even when one fails: what is
 * still being made can't be undone yet.
 */
export async function together<const T extends readonly unknown[]>(
  pieces: T,
): Promise<{ readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(pieces);
  return Promise.all(pieces);
}
