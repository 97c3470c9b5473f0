import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Waiting } from '#spec';

/**
 * Sends bytes on the socket with this descriptor, and with them a file: all of them, or none and false where the socket
 * is full. Throws for everything else.
 */
export type Pass = (socketFd: number, bytes: Uint8Array) => boolean;

const retryMs = 2;

/** Sends bytes past Node, after what was written to the socket before. Gives up when it closes or the signal aborts. */
export async function passOn(
  socket: Socket,
  bytes: Uint8Array,
  pass: Pass,
  { signal }: Waiting,
): Promise<void> {
  for (;;) {
    await drained(socket);
    if (socket.destroyed || signal.aborted) return;
    if (pass(descriptorOf(socket), bytes)) return;
    await sleep(retryMs);
  }
}

async function drained(socket: Socket): Promise<void> {
  while (socket.writableLength > 0 && !socket.destroyed) {
    const flushed = new AbortController();
    socket.write('', () => flushed.abort());
    // No listener stays on the socket, which lives as long as the VM.
    await once(socket, 'close', flushed).catch(() => {});
  }
}

/** Node's sockets give their descriptor in this way only; -1 for one that is closed. */
function descriptorOf(socket: Socket): number {
  const handle: unknown = Reflect.get(socket, '_handle');
  const fd = typeof handle === 'object' && handle !== null && 'fd' in handle ? handle.fd : -1;
  return typeof fd === 'number' ? fd : -1;
}
