/**
 * Awaits parts of a start that run at the same time and throws the first error in their order. Waits for all of them
 * even when one fails: what is still being created can't be undone yet.
 */
export async function together<const T extends readonly unknown[]>(
  parts: T,
): Promise<{ readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(parts);
  return Promise.all(parts);
}

/** `action`, called at the first call; every caller gets its outcome. */
export function once<T>(action: () => Promise<T>): () => Promise<T> {
  let outcome: Promise<T> | undefined;
  return () => {
    outcome ??= action();
    return outcome;
  };
}
