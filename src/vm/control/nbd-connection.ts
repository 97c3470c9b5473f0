import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { answered, closeFd, connectUnixAside, within } from '#host';
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
  try {
    await (server.type === 'unix' ? checkPath(server.path, limited) : checkHost(server, limited));
  } catch (cause) {
    waiting.signal.throwIfAborted();
    throw new VmError('host', `the NBD server does not answer: ${messageOf(cause)}`, { cause });
  }
}

/** Its file system may be that of a server which is away as well. */
async function checkPath(socket: string, waiting: Waiting): Promise<void> {
  await answered(socket, (path) => stat(path), waiting);
  closeFd(await connectUnixAside(socket));
}

async function checkHost(
  { host, port }: Extract<NbdServer, { type: 'inet' }>,
  waiting: Waiting,
): Promise<void> {
  const socket = connect({ host, port: Number(port) });
  try {
    await once(socket, 'connect', waiting);
  } finally {
    socket.destroy();
  }
}
