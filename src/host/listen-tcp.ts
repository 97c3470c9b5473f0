import { closeFd } from './files/descriptor.ts';
import { must } from './native/libc.ts';
import { socketAddress } from './socket-address.ts';

const typeStream = 1;
const typeCloexec = 0o2000000;
const solSocket = 1;
const soReuseAddress = 2;
const backlog = 16;

/** A TCP socket that listens on this address, IPv4 or IPv6, and port. Returns the descriptor. Throws HostError. */
export function listenTcp(address: string, port: number): number {
  const target = socketAddress(address, port);
  const where = `${address} port ${port}`;
  const family = target.readUInt16LE(0);
  const fd = must('making a TCP socket', 'socket', family, typeStream | typeCloexec, 0);
  try {
    const on = Buffer.from([1, 0, 0, 0]);
    must(`sharing ${where}`, 'setsockopt', fd, solSocket, soReuseAddress, on, on.length);
    must(`binding a socket to ${where}`, 'bind', fd, target, target.length);
    must(`listening on ${where}`, 'listen', fd, backlog);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
