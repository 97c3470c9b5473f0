import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import { attempt } from './native/libc.ts';

const checkMs = 2000;
/** Share of one core: a collection stops all other work for tens of milliseconds. */
const restingShare = 0.25;
const spareBytes = 16 * 2 ** 20;
const dontNeed = 4;

/**
 * Returns memory to the system after a burst of calls. V8 collects only while code allocates, so an idle process would
 * permanently keep what its busiest second needed, and malloc keeps free blocks between used ones. What only the start needed
 * of the program is given back at the first rest. Does nothing where Node runs without --expose-gc, as it does from sources.
 */
export function shrinkAtRest(): void {
  const { gc } = globalThis;
  if (gc === undefined) return;
  let settledBytes = heapBytes();
  let isReleased = false;
  let before = performance.eventLoopUtilization();
  const check = (): void => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    if (utilization > restingShare) return;
    if (!isReleased) releaseProgram();
    isReleased = true;
    if (heapBytes() < settledBytes + spareBytes) return;
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

interface Mapping {
  readonly start: bigint;
  readonly bytes: bigint;
}

/**
 * Gives back the pages of this program's file that its start needed, two thirds of what the process holds at first. They stay
 * in the kernel's cache, from which those that are used come back by themselves, sixteen at a time.
 */
export function releaseProgram(): void {
  for (const { start, bytes } of unchangedMappings(
    readFileSync('/proc/self/smaps', 'latin1'),
    process.execPath,
  )) {
    attempt('madvise', start, bytes, dontNeed);
  }
}

/** What is mapped of this file, can't be written to, and was not: relocated data would be lost. Reads /proc/<pid>/smaps. */
export function unchangedMappings(smaps: string, path: string): readonly Mapping[] {
  return smaps.split(/\n(?=[\da-f]+-[\da-f]+ )/).flatMap((text) => {
    const [, from, to, file] = /^([\da-f]+)-([\da-f]+) r-.p \S+ \S+ \d+ +(.*)$/m.exec(text) ?? [];
    if (file !== path || !/^Anonymous: +0 kB$/m.test(text) || !/^Swap: +0 kB$/m.test(text)) {
      return [];
    }
    const start = BigInt(`0x${from}`);
    return [{ start, bytes: BigInt(`0x${to}`) - start }];
  });
}
