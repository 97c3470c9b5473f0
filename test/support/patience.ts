import { availableParallelism, loadavg } from 'node:os';

/**
 * A time limit for this machine as it is now: as given when it is idle, longer the more work waits for its cores, so
 * that a limit says something of our code and not of what else runs.
 */
export function patient(ms: number): number {
  const perCore = (loadavg()[0] ?? 0) / availableParallelism();
  return Math.ceil(ms * Math.max(1, 2 * perCore));
}
