import type { Socket } from 'node:net';

/** DNS messages on a TCP connection: each after two bytes with its length (RFC 1035, 4.2.2). */

const lengthBytes = 2;
const maxMessageBytes = 0xffff;

/** The messages of a connection. Ends with it, and at once on a message of more than `maxBytes`. */
export async function* readMessages(
  socket: Socket,
  { maxBytes = maxMessageBytes }: { readonly maxBytes?: number } = {},
): AsyncGenerator<Buffer> {
  let held = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    held = Buffer.concat([held, chunk]);
    for (;;) {
      const length = held.length < lengthBytes ? undefined : held.readUInt16BE(0);
      if (length !== undefined && length > maxBytes) return;
      if (length === undefined || held.length < lengthBytes + length) break;
      yield held.subarray(lengthBytes, lengthBytes + length);
      held = held.subarray(lengthBytes + length);
    }
  }
}

/** Resolves when the kernel has taken it all. */
export async function writeMessage(socket: Socket, message: Buffer): Promise<void> {
  const length = Buffer.alloc(lengthBytes);
  length.writeUInt16BE(message.length, 0);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.write(Buffer.concat([length, message]), (error) => (error ? reject(error) : resolve()));
  await promise;
}
