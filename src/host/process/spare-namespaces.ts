import type { Waiting } from '#spec';
import { closeEmpty, type EmptyNamespaces, openEmpty } from './empty-namespaces.ts';

/** After a start is over. */
const laterMs = 250;

/**
 * Empty namespaces, of which one pair is kept ready once there was a first one: two programs run to make them, for which a
 * start would need the processor.
 */
export class SpareNamespaces implements AsyncDisposable {
  readonly #closing = new AbortController();
  #spare: EmptyNamespaces | undefined;
  #timer: NodeJS.Timeout | undefined;
  #making: Promise<void> = Promise.resolve();

  /** Gives a pair to one caller, who closes it. Otherwise as `openEmpty`. */
  async take(waiting: Waiting): Promise<EmptyNamespaces | undefined> {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare ?? (await openEmpty(waiting));
  }

  /** To be called when the start that took a pair is over. */
  replace(): void {
    clearTimeout(this.#timer);
    if (this.#closing.signal.aborted) return;
    this.#timer = setTimeout(() => this.#begin(), laterMs).unref();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    await this.#making;
    if (this.#spare !== undefined) closeEmpty(this.#spare);
    this.#spare = undefined;
  }

  #begin(): void {
    this.#making = this.#making.then(() => this.#make());
  }

  /** Never rejects: the next start makes its own, and reports what is wrong. */
  async #make(): Promise<void> {
    if (this.#spare !== undefined) return;
    this.#spare = await openEmpty(this.#closing).catch(() => undefined);
  }
}
