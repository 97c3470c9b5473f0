import { once } from 'node:events';
import { connect } from 'node:net';
import { within } from '#host';
import { rawNode } from '#qemu';
import type { QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import type { RecordedDisk } from '../store/device-record.ts';

type NbdServer = NonNullable<RecordedDisk['nbd']>['server'];

const answerMs = 2000;

/**
 * Has QEMU connect to a disk's NBD server again if it has lost the connection: it asks for the size of the export only when it
 * connects, and connects only when there is something to do. To give a node its options again flushes the disk. Does nothing for
 * other disks, and for one of an older release.
 */
export async function reconnect(
  { id, nbd, cache }: RecordedDisk,
  qmp: QmpClient,
  waiting: Waiting,
): Promise<void> {
  if (nbd === undefined) return;
  // All of the VM would wait with QEMU for a server that is away.
  await checkAnswers(nbd.server, waiting);
  const options = [rawNode({ id, discard: nbd.discard, cache })];
  await qmp.execute('blockdev-reopen', { options }, waiting);
}

async function checkAnswers(server: NbdServer, waiting: Waiting): Promise<void> {
  using limited = within(answerMs, waiting);
  const socket =
    server.type === 'unix'
      ? connect({ path: server.path })
      : connect({ host: server.host, port: Number(server.port) });
  try {
    await once(socket, 'connect', limited);
  } catch (cause) {
    waiting.signal.throwIfAborted();
    throw new VmError('host', `the NBD server does not answer: ${messageOf(cause)}`, { cause });
  } finally {
    socket.destroy();
  }
}
