import { setTimeout as sleepFor } from 'node:timers/promises';

/** How long a caller is ready to wait. A deadline is a signal too: `AbortSignal.timeout(ms)`. */
export interface Waiting {
  readonly signal: AbortSignal;
}

/** Lets `ms` pass; rejects with the signal's reason as soon as it aborts. */
export async function pause(ms: number, waiting: Waiting): Promise<void> {
  waiting.signal.throwIfAborted();
  try {
    await sleepFor(ms, undefined, { signal: waiting.signal });
  } catch (error) {
    // The timer's own AbortError hides why; a caller wants the reason its signal carries.
    waiting.signal.throwIfAborted();
    throw error;
  }
}

/** The promise's outcome, or the signal's reason if that comes first. Nothing stays behind on the signal. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  // Also when nobody waits any more: a rejection that nobody hears ends the process.
  promise.catch(() => {});
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason);
    signal.addEventListener('abort', aborted, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
}
