import { abortable } from '#host';
import { execSlots } from '#qemu';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';

/** Numbers of the commands that may run at once by one way; each is taken by one of them, and who comes too late waits. */
export class Slots {
  readonly #free = Array.from({ length: execSlots }, (_, slot) => slot);
  readonly #waiting: ((slot: number) => void)[] = [];

  /** Waits until `limited`, which is over no later than `waiting`. Throws VmError, or the reason of `waiting`. */
  async take(limited: Waiting, waiting: Waiting): Promise<number> {
    const slot = this.#free.shift();
    if (slot !== undefined) return slot;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#waiting.push(resolve);
    try {
      return await abortable(promise, limited);
    } catch (cause) {
      const place = this.#waiting.indexOf(resolve);
      if (place >= 0) this.#waiting.splice(place, 1);
      else this.give(await promise);
      waiting.signal.throwIfAborted();
      throw new VmError('host', `${execSlots} commands run in the guest already`, { cause });
    }
  }

  give(slot: number): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(slot);
    else next(slot);
  }
}
