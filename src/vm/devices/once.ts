/** `action`, called at the first call; every caller gets its outcome. */
export function once<T>(action: () => Promise<T>): () => Promise<T> {
  let outcome: Promise<T> | undefined;
  return () => {
    outcome ??= action();
    return outcome;
  };
}
