import { isAlive, type Logger, type ProcessIdentity, pause, waitGone, within } from '#host';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';
import type { Monitor } from './monitor.ts';

const pollMs = 1000;
/** A socket closes a moment before its process has ended. */
const dyingMs = 50;

/**
 * Whether the process still runs. When that can't be determined (for example when no descriptors are left) it counts
 * as running: reported as dead, it would make Nomad start a second VM.
 */
export function seemsAlive(
  identity: ProcessIdentity,
  log: Logger,
  look: () => boolean = () => isAlive(identity),
): boolean {
  try {
    return look();
  } catch (error) {
    log.warn('cannot determine whether a process runs', {
      pid: identity.pid,
      error: messageOf(error),
    });
    return true;
  }
}

/** Returns when QEMU's process, which is not our child process, has ended, or when the signal aborts. */
export async function whenGone(
  identity: ProcessIdentity,
  { monitor, log }: { readonly monitor: Monitor; readonly log: Logger },
  waiting: Waiting,
): Promise<void> {
  while (seemsAlive(identity, log) && !waiting.signal.aborted) {
    // The end of the connection shows the end of the process at once; without a connection it is polled.
    const { client } = monitor;
    if (client !== undefined) await client.closed;
    else await pause(pollMs, waiting).catch(() => {});
    using dying = within(dyingMs);
    await waitGone(identity, dying).catch(() => {});
  }
}
