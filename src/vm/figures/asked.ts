/** What another process was asked for, kept for a while: callers that come meanwhile get the same. */
export class Asked<T> {
  readonly #ask: () => Promise<T>;
  readonly #keptMs: number;
  #askedMs = Number.NEGATIVE_INFINITY;
  #answer: Promise<T> | undefined;
  #known: T | undefined;

  constructor(ask: () => Promise<T>, keptMs: number) {
    this.#ask = ask;
    this.#keptMs = keptMs;
  }

  /** The answer, where it is there and still kept: most samples wait for nothing. */
  get known(): T | undefined {
    return this.#isKept() ? this.#known : undefined;
  }

  get(): Promise<T> {
    if (this.#answer !== undefined && this.#isKept()) return this.#answer;
    this.#askedMs = performance.now();
    this.#known = undefined;
    this.#answer = this.#ask().then((answer) => {
      this.#known = answer;
      return answer;
    });
    return this.#answer;
  }

  #isKept(): boolean {
    return performance.now() - this.#askedMs < this.#keptMs;
  }
}
