import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from './vm.ts';

/** Paths of what a process has open; what it closes meanwhile is left out. */
export function openFiles(pid: number): readonly string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}

/** How many descriptors this process has open, once none is being closed: many are, in threads. */
export async function openFds(): Promise<number> {
  for (let last = -1, same = 0; ; ) {
    const now = countFds();
    same = now === last ? same + 1 : 0;
    if (same === 3) return now;
    last = now;
    await sleep(2);
  }
}

/** Waits until this process has no more of them open than before. */
export async function closedAgain(before: number): Promise<void> {
  await eventually(() => countFds() <= before, `no more than ${before} descriptors`);
}

function countFds(): number {
  return readdirSync('/proc/self/fd').length;
}
