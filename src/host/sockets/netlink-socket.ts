import { closeFd } from '../files/descriptor.ts';
import { attempt, attemptAside, libcError, must, type Outcome } from '../native/libc.ts';
import { families, types } from './numbers.ts';
import { setOption, socketOptions } from './options.ts';

const dontWait = 0x40;
// To recv: give the length of the whole datagram, also where the buffer is shorter.
const truncated = 0x20;
/** C's `struct sockaddr_nl` with port 0, which is the kernel. */
const kernelAddress = Buffer.alloc(12);
kernelAddress.writeUInt16LE(families.netlink, 0);

/**
 * A netlink socket in the network namespace of this thread. It is connected to the kernel: a program with rights in that
 * namespace can send it nothing. Returns the descriptor. Throws HostError.
 */
export function netlinkSocket(protocol: number): number {
  const what = 'making a netlink socket';
  const fd = must(what, 'socket', families.netlink, types.raw | types.cloexec, protocol);
  try {
    must(what, 'connect', fd, kernelAddress, kernelAddress.length);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** Subscribes a socket to what the kernel reports to a group, by its number. Throws HostError. */
export function joinGroup(fd: number, group: number): void {
  setOption(fd, socketOptions.netlinkGroup, group, `joining the netlink group ${group}`);
}

/**
 * Sends a datagram. The kernel carries out what it asks for before the call returns, and waits for its locks: so it is done
 * in a thread of the pool. The descriptor must stay open until this settles. Throws HostError.
 */
export async function sendAside(fd: number, datagram: Uint8Array): Promise<void> {
  const { errno } = await attemptAside('send', fd, datagram, datagram.length, 0);
  if (errno !== undefined) throw libcError('sending a datagram', errno);
}

/**
 * Takes the next datagram that is there: its length in bytes, which may be more than the buffer's, whose content is cut off
 * then. Undefined where there is none. Throws HostError.
 */
export function receive(fd: number, into: Uint8Array): number | undefined {
  return lengthOf(attempt('recv', fd, into, into.length, dontWait | truncated));
}

/** The same in a thread of the pool: who takes a part of a dump has the kernel make the next one meanwhile. */
export async function receiveAside(fd: number, into: Uint8Array): Promise<number | undefined> {
  return lengthOf(await attemptAside('recv', fd, into, into.length, dontWait | truncated));
}

function lengthOf({ value, errno }: Outcome): number | undefined {
  if (errno === undefined) return value;
  if (errno === 'EAGAIN' || errno === 'EWOULDBLOCK') return undefined;
  throw libcError('receiving a datagram', errno);
}
