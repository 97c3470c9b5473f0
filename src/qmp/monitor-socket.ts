import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Waiting } from '#spec';
import { QmpError } from './error.ts';
import { timedOut } from './pending-calls.ts';

/** A connection to the monitor's socket. Throws QmpError `connect` where nothing listens, `timeout` when the signal aborts. */
export async function connectMonitor(path: string, waiting: Waiting): Promise<Socket> {
  const socket = connect({ path });
  try {
    await once(socket, 'connect', waiting);
    return socket;
  } catch (cause) {
    socket.on('error', () => {}).destroy();
    if (waiting.signal.aborted) throw timedOut(`connecting to ${path}`, waiting);
    throw new QmpError('connect', `no QMP monitor at ${path}`, { cause });
  }
}
