import { constants } from 'node:os';
import type { Exit } from '#host';
import type { JournalEnd } from '#qmp';
import type { ExitResult } from '../virtualizer.ts';

/** Everything that is known about how a VM ended. */
export interface ExitEvidence {
  /** The end that QEMU wrote into its journal; undefined when the journal has none. */
  readonly journal: JournalEnd | undefined;
  /** From the kernel, where QEMU was our child process; undefined for an adopted VM. */
  readonly status: Exit | undefined;
  /** OOM kills in the task's cgroup since the VM was started. */
  readonly oomKills: number;
  /** Whether the driver was stopping or destroying it. */
  readonly stopping: boolean;
  /** Why the driver itself ended the VM as failed; undefined where it did not. */
  readonly failure?: string | undefined;
  /** The last lines QEMU printed, '' when there are none; read only where there is no better evidence. */
  readonly lastMessages: () => string;
}

const killed = 9;
const terminated = 15;

/**
 * How the VM ended, from the journal's reason rather than from QEMU's exit code: QEMU exits with 0 after a power-off,
 * a panic and a SIGTERM alike.
 */
export function exitResult(evidence: ExitEvidence): ExitResult {
  const { journal, failure: unready } = evidence;
  if (unready !== undefined) return failure('not-ready', 1, 0, unready);
  return journal === undefined ? withoutJournal(evidence) : byJournal(journal, evidence);
}

function byJournal({ reason, panicked }: JournalEnd, { stopping }: ExitEvidence): ExitResult {
  if (panicked || reason === 'guest-panic') {
    return failure('guest-panic', 1, 0, 'task has crashed: the guest system panicked');
  }
  switch (reason) {
    case 'guest-shutdown':
    case 'guest-reset':
      return success(reason);
    case 'watchdog':
      return failure(reason, 1, 0, 'task has crashed: the guest system no longer fed its watchdog');
    case 'host-qmp-quit':
      return stopping
        ? success(reason)
        : failure(reason, 1, 0, 'QEMU received a quit command that the driver did not send');
    case 'host-signal':
      return stopping
        ? success(reason)
        : failure(
            reason,
            128 + terminated,
            terminated,
            'QEMU was terminated by a signal from the host',
          );
    default:
      return failure(reason, 1, 0, `QEMU ended the VM: ${reason}`);
  }
}

function withoutJournal({ status, oomKills, stopping, lastMessages }: ExitEvidence): ExitResult {
  if (oomKills > 0) {
    // The kernel counts every such kill in the group, whichever limit was reached.
    const text =
      "QEMU was killed by the kernel for lack of memory: the task reached its limit, or the host's memory was used up";
    return { ...failure('oom-killed', 128 + killed, killed, text), oomKilled: true };
  }
  if (status?.signal != null) return bySignal(status.signal, stopping, lastMessages());
  if (status?.code != null) {
    const messages = lastMessages();
    const text = `QEMU exited with code ${status.code}${messages === '' ? '' : `: ${messages}`}`;
    return failure('emulator-failed', status.code === 0 ? 1 : status.code, 0, text);
  }
  if (stopping) return failure('killed', 128 + killed, killed, undefined);
  return failure(
    'killed',
    128 + killed,
    killed,
    'QEMU was killed or crashed while no plugin was watching: its event journal has no SHUTDOWN event',
  );
}

function bySignal(name: NodeJS.Signals, stopping: boolean, lastMessages: string): ExitResult {
  const number = constants.signals[name];
  if (name === 'SIGKILL') {
    const text = stopping ? undefined : 'QEMU was killed from the host with SIGKILL';
    return failure('killed', 128 + number, number, text);
  }
  const text = `QEMU crashed with ${name}${lastMessages === '' ? '' : `: ${lastMessages}`}`;
  return failure('emulator-crashed', 128 + number, number, text);
}

function success(reason: string): ExitResult {
  return { exitCode: 0, signal: 0, oomKilled: false, error: undefined, reason };
}

function failure(
  reason: string,
  exitCode: number,
  signal: number,
  error: string | undefined,
): ExitResult {
  return { exitCode, signal, oomKilled: false, error, reason };
}
