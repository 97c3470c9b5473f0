import { type Exit, oomKills } from '#host';
import type { Waiting } from '#spec';
import { lastMessages } from '../logs/log-tail.ts';
import type { ExitResult } from '../virtualizer.ts';
import { type ExitEvidence, exitResult } from './exit.ts';
import type { LiveVm } from './live-vm.ts';
import { whenGone } from './liveness.ts';
import type { Monitor } from './monitor.ts';

/** Returns when QEMU's process is gone, or the signal aborts; with its exit status where the kernel gave it to us. */
export async function whenQemuEnds(
  { identity, status, log }: LiveVm,
  monitor: Monitor,
  waiting: Waiting,
): Promise<Exit | undefined> {
  if (status !== undefined) return status;
  await whenGone(identity, { monitor, log }, waiting);
  return undefined;
}

/** How the VM ended, by everything that is left of it. */
export function exitOf(
  { record, paths }: LiveVm,
  evidence: Pick<ExitEvidence, 'status' | 'journal' | 'stopping'>,
): ExitResult {
  const { cgroup, oomKillsBefore } = record;
  return exitResult({
    ...evidence,
    oomKills: cgroup === undefined ? 0 : oomKills(cgroup) - oomKillsBefore,
    lastMessages: () => lastMessages(paths.messages),
  });
}
