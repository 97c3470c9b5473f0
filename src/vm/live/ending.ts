import { type Exit, oomKills } from '#host';
import type { Waiting } from '#spec';
import { lastMessages } from '../logs/log-tail.ts';
import type { ExitResult } from '../virtualizer.ts';
import { type ExitEvidence, exitResult } from './exit.ts';
import type { LiveVm } from './live-vm.ts';
import { whenGone } from './liveness.ts';
import type { Monitor } from './monitor.ts';

/**
 * Returns when QEMU's process has ended, or the signal aborts; with the exit status where QEMU is our child process.
 */
export async function whenQemuEnds(
  { identity, status, log }: LiveVm,
  monitor: Monitor,
  waiting: Waiting,
): Promise<Exit | undefined> {
  if (status !== undefined) return status;
  await whenGone(identity, { monitor, log }, waiting);
  return undefined;
}

/** How the VM ended, from its journal, its cgroup and its messages. */
export function exitOf(
  { record, paths }: LiveVm,
  evidence: Pick<ExitEvidence, 'status' | 'journal' | 'stopping' | 'failure'>,
): ExitResult {
  const { cgroup, oomKillsBefore } = record;
  return exitResult({
    ...evidence,
    oomKills: cgroup === undefined ? 0 : oomKills(cgroup) - oomKillsBefore,
    lastMessages: () => lastMessages(paths.messages),
  });
}
