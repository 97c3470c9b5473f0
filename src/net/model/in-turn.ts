/** Performs all at once, and throws the first error once all have ended. */
export async function together(actions: readonly (() => Promise<void>)[]): Promise<void> {
  const results = await Promise.allSettled(actions.map((action) => action()));
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/**
 * Performs all, one after the other: what fails in one place keeps nothing else from being put back. Throws the first error
 * in the end.
 */
export async function inTurn(actions: Iterable<() => Promise<void>>): Promise<void> {
  const errors: unknown[] = [];
  for (const action of actions) await action().catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw errors[0];
}
