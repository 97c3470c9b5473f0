import { createSocket, type Socket } from 'node:dgram';
import { HostError } from '../error.ts';
import { closeFd } from '../files/descriptor.ts';
import { must } from '../native/libc.ts';
import { tieToDevice, udpSocket } from './bound-socket.ts';
import { families, protocolIcmp6, types } from './numbers.ts';
import { setOption, socketOptions } from './options.ts';

const filterBytes = 32;
// Neighbour discovery: a message that has crossed a router is not taken.
const hopLimit = 255;

/** Where `send` of the socket goes to: its "port" must be the number of the protocol or 0, which Node refuses. */
export const icmp6Port = protocolIcmp6;

/**
 * A raw socket for ICMPv6 that receives messages of one type that arrive over one link, as one of Node's datagram
 * sockets: `message` gives a message from its type on, `send` to `icmp6Port` takes one, whose checksum the kernel fills
 * in. Throws HostError.
 *
 * Node takes over datagram sockets of UDP only, and knows no other way to wait for a descriptor. To the kernel both are the
 * same: `recvmsg` and `sendmsg` with addresses. So it is given a UDP socket, in whose place the raw one is put before the event
 * loop has looked at it (libuv passes a new descriptor to epoll when it polls next).
 */
export function icmp6Socket({
  device,
  type,
}: {
  readonly device: string;
  readonly type: number;
}): Socket {
  const raw = rawSocket(device, type);
  try {
    const place = udpSocket({ device, address: '::', port: 0, broadcast: false });
    const socket = createSocket('udp6');
    try {
      socket.bind({ fd: place, exclusive: true });
    } catch (error) {
      closeFd(place);
      throw error;
    }
    try {
      must('putting a socket in place of another', 'dup3', raw, place, types.cloexec);
      return socket;
    } catch (error) {
      socket.close();
      throw error;
    }
  } finally {
    closeFd(raw);
  }
}

function rawSocket(device: string, type: number): number {
  const what = 'setting up a socket for ICMPv6';
  const flags = types.raw | types.cloexec | types.nonBlocking;
  const fd = must('making a socket for ICMPv6', 'socket', families.inet6, flags, protocolIcmp6);
  try {
    setOption(fd, socketOptions.icmp6Filter, allBut(type), what);
    setOption(fd, socketOptions.unicastHops, hopLimit, what);
    setOption(fd, socketOptions.multicastHops, hopLimit, what);
    tieToDevice(fd, device);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** C's `struct icmp6_filter`: a bit for each type, in words of the machine's order, that is set for what is dropped. */
function allBut(type: number): Buffer {
  if (!(type >= 0 && type < filterBytes * 8)) throw new HostError(`no type of ICMPv6: ${type}`);
  const filter = Buffer.alloc(filterBytes, 0xff);
  const at = (type >> 5) * 4;
  filter.writeUInt32LE((0xffffffff & ~(1 << (type & 31))) >>> 0, at);
  return filter;
}
