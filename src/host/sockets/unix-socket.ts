import { chmodSync } from 'node:fs';
import { maxSocketPathBytes } from '#spec';
import { HostError } from '../error.ts';
import { closeFd } from '../files/descriptor.ts';
import { attemptAside, libcError, must } from '../native/libc.ts';
import { backlog, families, types } from './numbers.ts';

/**
 * A Unix stream socket that listens at `path`, mode 0600: connecting needs write permission on it. The path may have at
 * most 107 bytes; an existing file is EADDRINUSE. Returns the descriptor. Throws HostError.
 */
export function listenUnix(path: string): number {
  const address = unixAddress(path);
  const fd = must('making a unix socket', 'socket', families.unix, types.stream | types.cloexec, 0);
  try {
    must(`binding a socket to ${path}`, 'bind', fd, address, address.length);
    // No process can connect before listen(), so the umask's mode has no effect. Changing the umask instead would affect
    // files that pool threads are making at the same time.
    chmodSync(path, 0o600);
    must(`listening on ${path}`, 'listen', fd, backlog);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/**
 * A connection to the Unix stream socket that listens at `path`, to pass to a child: Node's own sockets can't be passed.
 * Returns the descriptor, in blocking mode. Throws HostError.
 */
export function connectUnix(path: string): number {
  const address = unixAddress(path);
  const fd = must('making a unix socket', 'socket', families.unix, types.stream | types.cloexec, 0);
  try {
    must(`connecting to ${path}`, 'connect', fd, address, address.length);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/**
 * The same in a thread of the pool, and without a wait for a server that accepts nothing (EAGAIN), for a path that may be on
 * any file system. The descriptor is for one of Node's sockets. Throws HostError.
 */
export async function connectUnixAside(path: string): Promise<number> {
  const address = unixAddress(path);
  const type = types.stream | types.cloexec | types.nonBlocking;
  const fd = must('making a unix socket', 'socket', families.unix, type, 0);
  const { errno } = await attemptAside('connect', fd, address, address.length);
  if (errno === undefined) return fd;
  closeFd(fd);
  throw libcError(`connecting to ${path}`, errno);
}

/** Two Unix stream sockets that are connected to each other, in blocking mode. Throws HostError. */
export function socketPair(): readonly [number, number] {
  const ends = Buffer.alloc(8); // int[2]
  must(
    'making a pair of sockets',
    'socketpair',
    families.unix,
    types.stream | types.cloexec,
    0,
    ends,
  );
  return [ends.readInt32LE(0), ends.readInt32LE(4)];
}

function unixAddress(path: string): Buffer {
  const name = Buffer.from(path);
  if (name.length === 0 || name.length > maxSocketPathBytes || name.includes(0)) {
    throw new HostError(`a socket path has 1 to ${maxSocketPathBytes} bytes: ${path}`, {
      errno: 'ENAMETOOLONG',
    });
  }
  const address = Buffer.alloc(2 + name.length + 1);
  address.writeUInt16LE(families.unix, 0);
  name.copy(address, 2);
  return address;
}
