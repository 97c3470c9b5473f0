import { closeFd } from './files/descriptor.ts';
import { must } from './native/libc.ts';
import { socketAddress } from './socket-address.ts';

const typeStream = 1;
const typeDatagram = 2;
const typeCloexec = 0o2000000;
const solSocket = 1;
const soReuseAddress = 2;
const levelIpv6 = 41;
const ipv6Only = 26;

/**
 * Binds a socket to a port of an address, and closes it: nothing can connect meanwhile. Throws HostError, EADDRINUSE where
 * a program listens or receives datagrams there. Takes microseconds, unlike a socket of Node.
 */
export function tryBind(protocol: 'tcp' | 'udp', address: string, port: number): void {
  const target = socketAddress(address, port);
  const isTcp = protocol === 'tcp';
  const type = (isTcp ? typeStream : typeDatagram) | typeCloexec;
  const fd = must('making a socket', 'socket', target.readUInt16LE(0), type, 0);
  try {
    const where = `${address} port ${port}`;
    const on = Buffer.from([1, 0, 0, 0]);
    // Over TCP connections of the past do not count then; over UDP sockets that share the port would not.
    if (isTcp) {
      must(`sharing ${where}`, 'setsockopt', fd, solSocket, soReuseAddress, on, on.length);
    }
    // Of IPv6 alone: 0.0.0.0 is another address.
    if (address.includes(':')) {
      must(`setting up ${where}`, 'setsockopt', fd, levelIpv6, ipv6Only, on, on.length);
    }
    must(`binding a socket to ${where}`, 'bind', fd, target, target.length);
  } finally {
    closeFd(fd);
  }
}
