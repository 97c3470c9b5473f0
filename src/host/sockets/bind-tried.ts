import { closeFd } from '../files/descriptor.ts';
import { must } from '../native/libc.ts';
import { types } from './numbers.ts';
import { setOption, socketOptions } from './options.ts';
import { socketAddress } from './socket-address.ts';

/**
 * Binds a socket to a port of an address, and closes it: nothing can connect meanwhile. Throws HostError, EADDRINUSE where
 * a program listens or receives datagrams there. Takes microseconds, unlike a socket of Node.
 */
export function tryBind(protocol: 'tcp' | 'udp', address: string, port: number): void {
  const target = socketAddress(address, port);
  const isTcp = protocol === 'tcp';
  const type = (isTcp ? types.stream : types.datagram) | types.cloexec;
  const fd = must('making a socket', 'socket', target.readUInt16LE(0), type, 0);
  try {
    const where = `${address} port ${port}`;
    // Over TCP connections of the past do not count then; over UDP sockets that share the port would not.
    if (isTcp) setOption(fd, socketOptions.reuseAddress, 1, `sharing ${where}`);
    // Of IPv6 alone: 0.0.0.0 is another address.
    if (address.includes(':')) setOption(fd, socketOptions.ipv6Only, 1, `setting up ${where}`);
    must(`binding a socket to ${where}`, 'bind', fd, target, target.length);
  } finally {
    closeFd(fd);
  }
}
