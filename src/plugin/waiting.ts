import { setTimeout as delay } from 'node:timers/promises';

/** Settles once the signal has aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** The longest a timer can be; Node runs one that is longer at once. */
const maxTimerMs = 2 ** 31 - 1;

/** Sleeps, at most 24 days; false when the signal ended it early. Keeps no process alive. */
export async function slept(ms: number, signal: AbortSignal): Promise<boolean> {
  try {
    await delay(Math.min(ms, maxTimerMs), undefined, { signal, ref: false });
    return true;
  } catch {
    return false;
  }
}

/** What the promise gives, unless the signal aborts first: then the signal's reason is thrown. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  // Nobody may wait for it any more when it fails, and a rejection that is left alone ends the process.
  promise.catch(() => {});
  signal.throwIfAborted();
  const { promise: gone, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, gone]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
