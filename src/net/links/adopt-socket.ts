import type { Socket } from 'node:dgram';
import type { Server } from 'node:net';
import { closeFd } from '#host';

/**
 * Makes Node's socket out of a descriptor, which belongs to it from then on and is closed where that fails; `start` is the
 * call that does it.
 */
export async function adoptSocket(
  socket: Socket | Server,
  fd: number,
  start: (fd: number, done: () => void) => void,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once('error', reject);
  try {
    start(fd, resolve);
    await promise;
  } catch (error) {
    closeFd(fd);
    throw error;
  } finally {
    socket.off('error', reject);
  }
}

/** The same for a socket of datagrams. */
export async function adoptDatagrams(socket: Socket, fd: number): Promise<void> {
  await adoptSocket(socket, fd, (own, done) => socket.bind({ fd: own, exclusive: true }, done));
}

/** Returns once it is closed. */
export async function closeSocket(socket: Socket | Server): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.close(() => resolve());
  await promise;
}
