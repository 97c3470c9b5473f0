import { abortable } from '#host';
import type { Waiting } from '#spec';

/** Numbers that are each taken by one user at a time; who comes too late waits. */
export class Slots {
  readonly #free: number[];
  readonly #waiting: ((slot: number) => void)[] = [];

  constructor(count: number) {
    this.#free = Array.from({ length: count }, (_, slot) => slot);
  }

  async take(waiting: Waiting): Promise<number> {
    const slot = this.#free.shift();
    if (slot !== undefined) return slot;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#waiting.push(resolve);
    try {
      return await abortable(promise, waiting);
    } catch (error) {
      const place = this.#waiting.indexOf(resolve);
      if (place >= 0) this.#waiting.splice(place, 1);
      else this.give(await promise);
      throw error;
    }
  }

  give(slot: number): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(slot);
    else next(slot);
  }
}
