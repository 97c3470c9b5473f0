import { performance } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { attempt } from './libc.ts';

const lookMs = 2000;
/** Of one core: a collection stops all other work for some hundredths of a second. */
const restingShare = 0.25;
const spareBytes = 16 * 2 ** 20;

/**
 * Gives memory back that a burst of calls left. V8 collects while something allocates, so a process at rest would keep for
 * ever what its busiest second needed, and malloc keeps what was freed between what is in use. Does nothing where Node runs
 * without --expose-gc, as it does from sources.
 */
export function shrinkAtRest(): void {
  const { gc } = globalThis;
  if (gc === undefined) return;
  let settledBytes = heapBytes();
  let before = performance.eventLoopUtilization();
  const look = (): void => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    if (utilization > restingShare || heapBytes() < settledBytes + spareBytes) return;
    // The one flavor that also returns the pages that V8 keeps for the next burst.
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    attempt('mallocTrim', 0);
    settledBytes = heapBytes();
  };
  setInterval(look, lookMs).unref();
}

function heapBytes(): number {
  return getHeapStatistics().total_heap_size;
}
