import { writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { errnoOf } from '../error.ts';

/** Of long work: a tenth of the processor time where others want all of it, all of it where they do not. */
export const lowNiceness = 10;

/** A process that has just begun, and what it starts, gets processor time after others. */
export function yieldsToOthers(pid: number): void {
  try {
    setPriority(pid, lowNiceness);
    // A session is a group of its own for the scheduler (sched(7), autogroup): this is the group's part.
    writeFileSync(`/proc/${pid}/autogroup`, String(lowNiceness));
  } catch (error) {
    // It has ended already, or this kernel has no such groups.
    if (errnoOf(error) !== 'ESRCH' && errnoOf(error) !== 'ENOENT') throw error;
  }
}
