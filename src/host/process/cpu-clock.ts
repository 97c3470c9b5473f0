import { attempt } from '../native/libc.ts';

/** C's `struct timespec`; each call fills it anew. */
const time = new Uint8Array(16);
const view = new DataView(time.buffer);

/**
 * The CPU time that the process with this pid has used, ended threads and the kernel's part included; undefined where there is
 * no such process. It names no process beyond its pid: a later one with the same pid has another time.
 */
export function cpuClockNs(pid: number): number | undefined {
  // The clocks of processes are numbered by their pids: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel.
  if (attempt('clockGettime', (~pid << 3) | 2, time).errno !== undefined) return undefined;
  return Number(view.getBigInt64(0, true)) * 1e9 + Number(view.getBigInt64(8, true));
}
