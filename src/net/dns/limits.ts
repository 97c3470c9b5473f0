/** How much of something each guest and all of them may have at a time; each may have one. */
export class Limits {
  readonly #each: number;
  readonly #all: number;
  readonly #held = new Map<string, number>();
  #total = 0;

  constructor({ each, all }: { readonly each: number; readonly all: number }) {
    this.#each = each;
    this.#all = all;
  }

  /**
   * One more for the guest, given back when disposed; undefined when it has its share, or all is in use. The first is given
   * all the same: a few guests together must not take it from the others.
   */
  take(guest: string): Disposable | undefined {
    const held = this.#held.get(guest) ?? 0;
    if (held >= this.#each || (held > 0 && this.#total >= this.#all)) return undefined;
    this.#held.set(guest, held + 1);
    this.#total += 1;
    let given = false;
    return {
      [Symbol.dispose]: () => {
        if (!given) this.#giveBack(guest);
        given = true;
      },
    };
  }

  #giveBack(guest: string): void {
    const left = (this.#held.get(guest) ?? 1) - 1;
    if (left === 0) this.#held.delete(guest);
    else this.#held.set(guest, left);
    this.#total -= 1;
  }
}
