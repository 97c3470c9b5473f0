import { within } from '#host';
import type { Waiting } from '#spec';
import { inTurn } from './in-turn.ts';

/** One that is looked after, in a network namespace. */
interface Turn {
  /** This process's own when left out: it has all the time that there is. */
  readonly netns?: string | undefined;
  readonly work: (waiting: Waiting) => Promise<void>;
}

// A NIC takes some 50 ms, and all have 10 s.
const usualMs = 4000;

/**
 * Work in network namespaces, one after the other. A task of the group may be root in its own, and fill it with so many rules
 * that to list them takes all the time that there is: each has a part of it, and one that needs more comes last from then on.
 */
export class Turns {
  readonly #slow = new Set<string>();
  readonly #eachMs: number;

  constructor({ eachMs = usualMs }: { readonly eachMs?: number } = {}) {
    this.#eachMs = eachMs;
  }

  async run(turns: readonly Turn[], waiting: Waiting): Promise<void> {
    const isSlow = ({ netns = '' }: Turn): boolean => this.#slow.has(netns);
    const sorted = [...turns.filter((turn) => !isSlow(turn)), ...turns.filter(isSlow)];
    await inTurn(sorted.map((turn) => () => this.#run(turn, waiting)));
    const known = new Set(turns.map(({ netns }) => netns));
    for (const netns of this.#slow) if (!known.has(netns)) this.#slow.delete(netns);
  }

  async #run({ netns, work }: Turn, waiting: Waiting): Promise<void> {
    waiting.signal.throwIfAborted();
    if (netns === undefined) return work(waiting);
    using limited = within(this.#eachMs, waiting);
    try {
      await work(limited);
    } finally {
      if (!limited.signal.aborted) this.#slow.delete(netns);
      else if (!waiting.signal.aborted) this.#slow.add(netns);
    }
  }
}
