import { performance } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { attempt } from './native/libc.ts';

const checkMs = 2000;
/** Share of one core: a collection stops all other work for tens of milliseconds. */
const restingShare = 0.25;
const spareBytes = 16 * 2 ** 20;

/**
 * Returns memory to the system after a burst of calls. V8 collects only while code allocates, so an idle process would
 * permanently keep what its busiest second needed, and malloc keeps free blocks between used ones. Does nothing where
 * Node runs without --expose-gc, as it does from sources.
 */
export function shrinkAtRest(): void {
  const { gc } = globalThis;
  if (gc === undefined) return;
  let settledBytes = heapBytes();
  let before = performance.eventLoopUtilization();
  const check = (): void => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    if (utilization > restingShare || heapBytes() < settledBytes + spareBytes) return;
    // Only this flavor also returns the pages that V8 keeps for the next burst.
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    attempt('mallocTrim', 0);
    settledBytes = heapBytes();
  };
  setInterval(check, checkMs).unref();
}

function heapBytes(): number {
  return getHeapStatistics().total_heap_size;
}
