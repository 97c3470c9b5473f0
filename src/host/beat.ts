import type { Waiting } from '#spec';
import { inTurns } from './turns.ts';

/** Samples of so many VMs take a few milliseconds, and some ten where the code is cold. */
const perTurn = 32;

interface Moment {
  readonly timer: NodeJS.Timeout;
  readonly waiting: Set<() => void>;
}

/** The moments that are waited for, by their time: one timer for all that wait for the same. */
const moments = new Map<number, Moment>();

/**
 * The beat of what is done again and again. All of one interval have their beats at the same moments: this process wakes up
 * once for all of them, and what they send leaves in few pieces.
 */
export class Beat {
  readonly #intervalMs: number;
  readonly #signal: AbortSignal;
  #dueMs = performance.now();
  #end: () => void = () => {};

  constructor(intervalMs: number, { signal }: Waiting) {
    this.#intervalMs = intervalMs;
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#end(), { once: true });
  }

  /** Waits for the next beat; false once the signal has aborted. One caller at a time. Does not keep the process alive. */
  async next(): Promise<boolean> {
    if (this.#signal.aborted) return false;
    this.#dueMs = nextBeat(this.#dueMs, performance.now(), this.#intervalMs);
    const { promise, resolve } = Promise.withResolvers<void>();
    const leave = waitFor(this.#dueMs, resolve);
    this.#end = () => {
      leave();
      resolve();
    };
    await promise;
    return !this.#signal.aborted;
  }
}

/**
 * The first beat after the beginning comes after half an interval to one and a half, each later one an interval after the last.
 * A slow sample does not delay the later ones; missed ones are left out.
 */
export function nextBeat(lastMs: number, nowMs: number, intervalMs: number): number {
  return Math.ceil(Math.max(lastMs + intervalMs / 2, nowMs) / intervalMs) * intervalMs;
}

/** Returns what ends the wait. */
function waitFor(dueMs: number, resolve: () => void): () => void {
  const moment = moments.get(dueMs) ?? newMoment(dueMs);
  moment.waiting.add(resolve);
  return () => {
    moment.waiting.delete(resolve);
    if (moment.waiting.size > 0) return;
    clearTimeout(moment.timer);
    moments.delete(dueMs);
  };
}

function newMoment(dueMs: number): Moment {
  const waiting = new Set<() => void>();
  const come = (): void => {
    moments.delete(dueMs);
    void inTurns([...waiting], perTurn, (resolve) => resolve());
  };
  const timer = setTimeout(come, dueMs - performance.now()).unref();
  const moment = { timer, waiting };
  moments.set(dueMs, moment);
  return moment;
}
