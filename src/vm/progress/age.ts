import { uptime } from 'node:os';
import type { ProcessIdentity } from '#host';

/** USER_HZ, the same on every architecture that the driver runs on. */
const ticksPerSecond = 100;

/**
 * Gives the time since the process began, in ms, whichever process asks: from the host's time since boot, which is never
 * set.
 */
export function ageOf({ startTicks }: Pick<ProcessIdentity, 'startTicks'>): () => number {
  const beganMs = (Number(startTicks) / ticksPerSecond) * 1000;
  return () => Math.max(0, uptime() * 1000 - beganMs);
}
