import type { Waiting } from '#spec';
import { abortable } from './waiting.ts';

interface Entry<T> {
  readonly state: string;
  readonly answer: Promise<T>;
  readonly end: AbortController;
  /** How many wait for the answer now. */
  callers: number;
}

/**
 * Caches one answer per key, as long as the state of what it is about stays the same. Concurrent callers share the
 * query. It belongs to none of them: each stops waiting when its own signal aborts, and the last one ends the query. A
 * failure is that of all who wait for it; it may be temporary (a busy host) and is not cached.
 */
export class SharedAnswers<T> {
  readonly #known = new Map<string, Entry<T>>();

  /** Throws the errors of `query`, and the signal's reason. */
  async get(
    { key, state }: { readonly key: string; readonly state: string },
    query: (waiting: Waiting) => Promise<T>,
    waiting: Waiting,
  ): Promise<T> {
    waiting.signal.throwIfAborted();
    const former = this.#known.get(key);
    const entry = former?.state === state ? former : this.#begin(key, state, query);
    entry.callers += 1;
    try {
      return await abortable(entry.answer, waiting);
    } catch (error) {
      // The query failed, or this caller stops waiting for it.
      if (entry.callers === 1) {
        this.#forgetEntry(key, entry);
        entry.end.abort(error);
      }
      throw error;
    } finally {
      entry.callers -= 1;
    }
  }

  forget(key: string): void {
    this.#known.delete(key);
  }

  #begin(key: string, state: string, query: (waiting: Waiting) => Promise<T>): Entry<T> {
    const end = new AbortController();
    const entry = { state, answer: query(end), end, callers: 0 };
    this.#known.set(key, entry);
    entry.answer.catch(() => this.#forgetEntry(key, entry));
    return entry;
  }

  /** Not one that has taken its place since. */
  #forgetEntry(key: string, entry: Entry<T>): void {
    if (this.#known.get(key) === entry) this.#known.delete(key);
  }
}
