import { align } from './attributes.ts';

/** Message types of rtnetlink that are sent or understood (linux/rtnetlink.h); 2 and 3 are netlink's own. */
export const messageType = {
  error: 2,
  done: 3,
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  newAddress: 20,
  getAddress: 22,
  newRoute: 24,
  getRoute: 26,
  newNeighbour: 28,
  deleteNeighbour: 29,
  getNeighbour: 30,
  /** Queueing disciplines of links. */
  newQueue: 36,
  getQueue: 38,
} as const;

/** linux/netlink.h. `dump` is ROOT | MATCH. */
export const flag = {
  request: 0x1,
  ack: 0x4,
  dumpInterrupted: 0x10,
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
} as const;

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Buffer;
}

/** A message of the kernel. */
export interface Received extends Message {
  /** The number of the socket whose request it is about. */
  readonly port: number;
}

const headerBytes = 16;

export function encodeMessage(message: Omit<Message, 'body'> & { body: Uint8Array }): Buffer {
  const bytes = Buffer.alloc(headerBytes + message.body.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(message.type, 4);
  bytes.writeUInt16LE(message.flags, 6);
  bytes.writeUInt32LE(message.sequence, 8);
  bytes.set(message.body, headerBytes);
  return bytes;
}

/** One datagram → its messages. Everything after a truncated message is ignored. */
export function decodeMessages(datagram: Uint8Array): readonly Received[] {
  const view = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  const messages: Received[] = [];
  for (let at = 0; at + headerBytes <= view.length; ) {
    const length = view.readUInt32LE(at);
    if (length < headerBytes || at + length > view.length) break;
    messages.push({
      type: view.readUInt16LE(at + 4),
      flags: view.readUInt16LE(at + 6),
      sequence: view.readUInt32LE(at + 8),
      port: view.readUInt32LE(at + 12),
      body: view.subarray(at + headerBytes, at + length),
    });
    at += align(length);
  }
  return messages;
}

/** The (negative) errno an error or done message carries; 0 is success. */
export function statusOf(message: Message): number {
  return message.body.length >= 4 ? message.body.readInt32LE() : 0;
}
