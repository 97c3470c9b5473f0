import { setTimeout as sleepFor } from 'node:timers/promises';
import type { Waiting } from '#spec';

/** Maximum of a timer; Node fires a longer one at once. */
const maxTimerMs = 2 ** 31 - 1;

/**
 * A deadline `ms` from now, or the end of another wait if that comes first. Disposing of a long one releases its
 * resources. Not AbortSignal.any over AbortSignal.timeout: Node keeps both, and all listeners, until the time is up.
 */
export function within(ms: number, waiting?: Waiting): Waiting & Disposable {
  const deadline = new AbortController();
  const expire = (): void => deadline.abort(new DOMException('the time is up', 'TimeoutError'));
  const stop = afterAnswers(Math.min(maxTimerMs, Math.max(1, Math.ceil(ms))), expire, {
    ref: false,
  });
  const { signal } = deadline;
  return {
    signal: waiting ? AbortSignal.any([waiting.signal, signal]) : signal,
    [Symbol.dispose]: stop,
  };
}

/**
 * Acts once the time is up, but after all answers that are there by then: where this process had no processor meanwhile,
 * they are there as well, and Node looks at timers first. Returns what stops it.
 */
function afterAnswers(ms: number, act: () => void, { ref }: { readonly ref: boolean }): () => void {
  let immediate: NodeJS.Immediate | undefined;
  const timer = setTimeout(() => {
    immediate = setImmediate(act);
  }, ms);
  if (!ref) timer.unref();
  return () => {
    clearTimeout(timer);
    clearImmediate(immediate);
  };
}

/** Waits for `ms`; rejects with the signal's reason as soon as it aborts. */
export async function pause(ms: number, waiting: Waiting): Promise<void> {
  waiting.signal.throwIfAborted();
  try {
    await sleepFor(ms, undefined, { signal: waiting.signal });
  } catch (error) {
    // The timer's own AbortError hides the reason that the caller's signal carries.
    waiting.signal.throwIfAborted();
    throw error;
  }
}

/** Waits for `ms`, at most 24 days; false when the signal aborted first. Does not keep the process alive. */
export async function slept(ms: number, { signal }: Waiting): Promise<boolean> {
  try {
    await sleepFor(Math.min(ms, maxTimerMs), undefined, { signal, ref: false });
    return true;
  } catch {
    return false;
  }
}

/** The promise's outcome, or the signal's reason if that comes first. No listener stays on the signal. */
export async function abortable<T>(promise: Promise<T>, { signal }: Waiting): Promise<T> {
  // After an abort the promise has no other observer, and an unhandled rejection ends the process.
  promise.catch(() => {});
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** Settles once the signal has aborted. */
export function aborted({ signal }: Waiting): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Whether the promise settles within the time. */
export async function endsWithin(ended: Promise<unknown>, ms: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<false>();
  const stop = afterAnswers(Math.max(0, ms), () => resolve(false), { ref: true });
  try {
    return await Promise.race([ended.then(() => true), late]);
  } finally {
    stop();
  }
}

/**
 * Awaits pieces of work that run at the same time and throws the first error in their order. Waits for all of them
 * even when one fails: what is still being made can't be undone yet.
 */
export async function together<const T extends readonly unknown[]>(
  parts: T,
): Promise<{ readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(parts);
  return Promise.all(parts);
}
