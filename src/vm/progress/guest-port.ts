import { once } from 'node:events';
import { connect } from 'node:net';
import { slept, within } from '#host';
import type { Waiting } from '#spec';

const connectMs = 2000;
const pauseMs = 500;

export interface GuestPort {
  readonly address: string;
  readonly port: number;
}

/**
 * Returns true when a server in the guest accepts a connection, false when the signal aborts first. Nothing is sent or
 * read: an ssh server would count the connection as a login that failed only after a while.
 */
export async function portOpens(guest: GuestPort, waiting: Waiting): Promise<boolean> {
  do {
    if (await accepts(guest, waiting)) return true;
  } while (await slept(pauseMs, waiting));
  return false;
}

async function accepts({ address, port }: GuestPort, waiting: Waiting): Promise<boolean> {
  using limited = within(connectMs, waiting);
  const socket = connect({ host: address, port });
  socket.on('error', () => {});
  try {
    await once(socket, 'connect', limited);
    return true;
  } catch {
    return false; // refused, unreachable, or no answer in time
  } finally {
    socket.destroy();
  }
}
