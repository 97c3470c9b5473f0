import { execChannels, isAgentOpen } from '#qemu';
import { type QmpClient, QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { notConnected } from '../../error.ts';
import { WayMissing } from '../way.ts';

// The key has changed with the releases of Red Hat's package: RHEL 8 and before, 9.0 to 9.3, since 9.4; Fedora has its own.
const remedy =
  'allow guest-exec and guest-exec-status in the configuration of qemu-guest-agent in the guest and restart it; ' +
  'Red Hat and its kin: FILTER_RPC_ARGS, QEMU_GA_ARGS, BLOCK_RPCS or BLACKLIST_RPC in /etc/sysconfig/qemu-ga; ' +
  'others: allow-rpcs or block-rpcs in /etc/qemu/qemu-ga.conf';

/** How long a start has waited for its command to begin, and whether that was less than a slow guest needs. */
export interface StartTime {
  readonly startMs: number;
  readonly early: boolean;
}

/** What the guest lacks, where its agent does not do what it is asked for; any other error as it is. */
export function agentMissing(cause: unknown, { startMs, early }: StartTime): unknown {
  if (cause instanceof Error && cause.name === 'TimeoutError') {
    const needed = 'virtio_console in its kernel, and sh, sleep, setsid and stty';
    const message = `no command began in the guest within ${startMs / 1000} s; it needs ${needed}`;
    return new WayMissing(message, { cause, early });
  }
  if (!(cause instanceof QmpError)) return cause;
  if (cause.code !== 'command') {
    return new WayMissing('the guest agent does not answer', { cause });
  }
  const isBlocked = /disabled|not allowed|CommandNotFound|not found/i.test(cause.message);
  const message = isBlocked ? `${cause.message}; ${remedy}` : cause.message;
  return new WayMissing(message, { cause });
}

/** QEMU, where a process in the guest has opened the agent's port. */
export async function withAgent(qmp: QmpClient | undefined, waiting: Waiting): Promise<QmpClient> {
  if (qmp === undefined) throw notConnected();
  const ports = await qmp.execute('query-chardev', {}, waiting);
  const [first] = execChannels;
  if (!ports.some(({ label }) => label === first)) {
    throw new WayMissing('the VM was started by a release without exec: restart the task');
  }
  if (isAgentOpen(ports)) return qmp;
  const message = 'the guest agent is not connected: install qemu-guest-agent in the guest';
  throw new WayMissing(`${message}, or wait until it has started`, { recoverable: true });
}
