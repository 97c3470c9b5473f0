/** What another process was asked for, kept for a while: callers that come meanwhile get the same. */
export class Asked<T> {
  readonly #ask: () => Promise<T>;
  readonly #keptMs: number;
  #askedMs = Number.NEGATIVE_INFINITY;
  #answer: Promise<T> | undefined;

  constructor(ask: () => Promise<T>, keptMs: number) {
    this.#ask = ask;
    this.#keptMs = keptMs;
  }

  get(): Promise<T> {
    const nowMs = performance.now();
    if (this.#answer === undefined || nowMs - this.#askedMs >= this.#keptMs) {
      this.#askedMs = nowMs;
      this.#answer = this.#ask();
    }
    return this.#answer;
  }
}
