/**
 * Preloaded into a plugin under test: answers SIGUSR2 with a line on stderr that counts what is alive after a forced
 * collection. Needs --expose-gc.
 */
import { readdirSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { queryObjects } from 'node:v8';

export interface Alive {
  /** Of every class: whatever a cycle keeps, be it a promise, a listener, a timer or a map's entry, shows here. */
  readonly objects: number;
  readonly signals: number;
  readonly heapBytes: number;
  readonly descriptors: number;
}

process.on('SIGUSR2', () => void answer());

async function answer(): Promise<void> {
  // What is only weakly held, and what finalizers free, goes round by round.
  for (let round = 0; round < 4; round += 1) {
    globalThis.gc?.();
    await delay(20);
  }
  const alive: Alive = {
    objects: queryObjects(Object, { format: 'count' }),
    signals: queryObjects(AbortSignal, { format: 'count' }),
    heapBytes: process.memoryUsage().heapUsed,
    descriptors: readdirSync('/proc/self/fd').length,
  };
  writeSync(2, `alive ${JSON.stringify(alive)}\n`);
}
