import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Waiting } from '#spec';

/** Returns when the bytes are on their way and more may be written. What is no longer read is dropped. */
export async function writeTo(socket: Socket, data: Uint8Array, waiting: Waiting): Promise<void> {
  if (data.length === 0 || socket.destroyed || !socket.writable) return;
  if (socket.write(data)) return;
  const written = new AbortController();
  const over = { signal: AbortSignal.any([waiting.signal, written.signal]) };
  try {
    await Promise.race(['drain', 'close'].map((event) => once(socket, event, over)));
  } finally {
    written.abort();
  }
}

/** Ctrl-D, the end of input at a terminal. */
const endOfTerminal = '\x04';

export function endInputOf(socket: Socket, terminal: boolean): void {
  if (socket.destroyed) return;
  if (terminal) socket.write(endOfTerminal);
  else socket.end();
}
