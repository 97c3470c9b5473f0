/**
 * Performs all, one after the other: what fails in one place keeps nothing else from being put back. Throws the first error
 * in the end.
 */
export async function inTurn(actions: Iterable<() => Promise<unknown>>): Promise<void> {
  const errors: unknown[] = [];
  for (const action of actions) await action().catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw errors[0];
}
