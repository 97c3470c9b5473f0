import { setTimeout as sleep } from 'node:timers/promises';

/** Fetches a page, with retries until it is available. Throws when it is not within `limitMs`. */
export async function fetchPage(
  url: string,
  limitMs: number,
  { signal }: { readonly signal: AbortSignal },
): Promise<{ readonly status: number; readonly text: string; readonly tookMs: number }> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  let last: unknown;
  while (!limited.aborted) {
    const begin = performance.now();
    try {
      const once = AbortSignal.any([limited, AbortSignal.timeout(2000)]);
      const response = await fetch(url, { signal: once });
      const text = await response.text();
      return { status: response.status, text, tookMs: performance.now() - begin };
    } catch (error) {
      last = error;
      await sleep(200, undefined, { signal: limited }).catch(() => {});
    }
  }
  signal.throwIfAborted();
  throw new Error(`${url} did not answer within ${limitMs / 1000} s: ${reasonOf(last)}`);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message;
}
