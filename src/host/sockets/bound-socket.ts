import { isIPv4 } from 'node:net';
import { closeFd } from '../files/descriptor.ts';
import { must } from '../native/libc.ts';
import { types } from './numbers.ts';
import { type SocketOption, setOption, socketOptions } from './options.ts';
import { socketAddress } from './socket-address.ts';

export interface BoundSocketOptions {
  /** Restricts the socket to packets of this link. */
  readonly device?: string;
  /** The address to bind to, '0.0.0.0' for any of IPv4, '::' for any of IPv6. */
  readonly address: string;
  readonly port: number;
}

export interface UdpSocketOptions extends BoundSocketOptions {
  /** Whether sending to a broadcast address is allowed. */
  readonly broadcast: boolean;
  /** Each packet goes to one of the sockets that share the port so; otherwise a broadcast to all, others to the last. */
  readonly spread?: boolean;
}

/** A bound datagram socket of the address's family alone, ready for `dgram.Socket.bind({ fd })`, which then owns it. Throws HostError. */
export function udpSocket({ broadcast, spread = false, ...where }: UdpSocketOptions): number {
  const also = [
    ...(broadcast ? [socketOptions.broadcast] : []),
    ...(spread ? [socketOptions.reusePort] : []),
  ];
  return boundSocket(types.datagram, where, also);
}

/**
 * A bound stream socket, ready for `net.Server.listen({ fd })`, which then owns it. Each connection goes to one of
 * the sockets that share the port. Throws HostError.
 */
export function tcpSocket(where: BoundSocketOptions): number {
  return boundSocket(types.stream, where, [socketOptions.reusePort]);
}

function boundSocket(
  type: number,
  { device, address, port }: BoundSocketOptions,
  options: readonly SocketOption[],
): number {
  const target = socketAddress(address, port);
  const where = `${address}:${port}${device === undefined ? '' : ` on ${device}`}`;
  const flags = types.cloexec | types.nonBlocking;
  const fd = must('making a socket', 'socket', target.readUInt16LE(0), type | flags, 0);
  try {
    for (const option of [socketOptions.reuseAddress, ...options]) {
      setOption(fd, option, 1, `sharing ${where}`);
    }
    if (!isIPv4(address)) setOption(fd, socketOptions.ipv6Only, 1, `binding ${where}`);
    if (device !== undefined) tieToDevice(fd, device);
    must(`binding a socket to ${where}`, 'bind', fd, target, target.length);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** The socket gets packets of this link alone, and sends over it. */
export function tieToDevice(fd: number, device: string): void {
  const name = Buffer.from(`${device}\0`);
  setOption(fd, socketOptions.bindToDevice, name, `tying a socket to the link ${device}`);
}
