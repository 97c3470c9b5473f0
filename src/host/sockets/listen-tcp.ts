import { closeFd } from '../files/descriptor.ts';
import { must } from '../native/libc.ts';
import { backlog, types } from './numbers.ts';
import { setOption, socketOptions } from './options.ts';
import { socketAddress } from './socket-address.ts';

/** A TCP socket that listens on this address, IPv4 or IPv6, and port. Returns the descriptor. Throws HostError. */
export function listenTcp(address: string, port: number): number {
  const target = socketAddress(address, port);
  const where = `${address} port ${port}`;
  const family = target.readUInt16LE(0);
  const fd = must('making a TCP socket', 'socket', family, types.stream | types.cloexec, 0);
  try {
    setOption(fd, socketOptions.reuseAddress, 1, `sharing ${where}`);
    must(`binding a socket to ${where}`, 'bind', fd, target, target.length);
    must(`listening on ${where}`, 'listen', fd, backlog);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
