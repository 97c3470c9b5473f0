import { within } from '#host';
import type { Waiting } from '#spec';
import type { StartRequest } from '../way.ts';
import type { StartTime } from './agent-missing.ts';

/** For a slow guest, and for those that begin before. */
export const startMs = 10_000;
/** An agent that has hung, or starts nothing, stays connected: it is found out before the command's own time is used up. */
const answerMs = 5000;
/** From then on until it does, where there is another way: a check that has little time is to reach the guest, too. */
const silentMs = 1000;

/** What it did not do in time: answer, or begin a command. */
export type Stuck = 'silent' | 'idle';

/** How long an agent is waited for: less where there is another way, and little after the last command did not begin. */
export class AgentPatience {
  readonly #alone: boolean;
  #stuck: Stuck | undefined;

  /** `alone`: there is no other way. */
  constructor(alone: boolean) {
    this.#alone = alone;
  }

  /** The last command did not begin in its time. */
  get stuck(): boolean {
    return this.#stuck !== undefined;
  }

  /** For a sign of life. */
  get answerMs(): number {
    return this.stuck && !this.#alone ? silentMs : answerMs;
  }

  /** For a command to begin, once it is its turn. */
  startTime({ last = false }: StartRequest): StartTime {
    if (this.#alone || last) return { startMs, early: false };
    return { startMs: this.stuck ? silentMs : answerMs, early: true };
  }

  /** For its place: where none begins, those that were to begin have not left yet, and another way need not wait for that. */
  slotMs(request: StartRequest): number {
    return this.stuck ? this.startTime(request).startMs : startMs;
  }

  /** Does what the agent is waited for at most this long, and remembers which of it takes longer. */
  async limit<T>(
    { ms, or }: { readonly ms: number; readonly or: Stuck },
    work: (limited: Waiting) => Promise<T>,
    waiting: Waiting,
  ): Promise<T> {
    using limited = within(ms, waiting);
    try {
      const result = await work(limited);
      // One that begins nothing answers all the same.
      if (this.#stuck === or) this.#stuck = undefined;
      return result;
    } catch (error) {
      if (!limited.signal.aborted) this.#stuck = undefined;
      else if (this.#stuck !== 'idle') this.#stuck = or;
      throw error;
    }
  }
}
