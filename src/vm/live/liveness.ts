import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, type Logger, type ProcessIdentity, waitGone, within } from '#host';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';
import type { Monitor } from './monitor.ts';

const lookAgainMs = 1000;
/** A socket closes a moment before its process is gone. */
const dyingMs = 50;

/**
 * Whether the process still runs. One that can't be looked at (no descriptors are left, say) counts as running: taking
 * it for dead would make Nomad start a second VM.
 */
export function seemsAlive(identity: ProcessIdentity, log: Logger): boolean {
  try {
    return isAlive(identity);
  } catch (error) {
    log.warn('cannot tell whether QEMU runs', { pid: identity.pid, error: messageOf(error) });
    return true;
  }
}

/** Returns when QEMU's process, which is not our child, is gone, or when the signal aborts. */
export async function whenGone(
  identity: ProcessIdentity,
  { monitor, log }: { readonly monitor: Monitor; readonly log: Logger },
  { signal }: Waiting,
): Promise<void> {
  while (seemsAlive(identity, log) && !signal.aborted) {
    // The socket's end shows its death at once; a look every second covers a lost connection.
    const { client } = monitor;
    if (client !== undefined) await client.closed;
    else await sleep(lookAgainMs, undefined, { signal }).catch(() => {});
    await waitGone(identity, within(dyingMs)).catch(() => {});
  }
}
