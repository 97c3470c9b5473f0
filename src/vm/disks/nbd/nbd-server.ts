import { stat } from 'node:fs/promises';
import { connect, Socket } from 'node:net';
import {
  abortable,
  answered,
  closeLater,
  connectUnixAside,
  openAside,
  pathOnly,
  statAside,
  within,
} from '#host';
import type { Waiting } from '#spec';
import { type NbdExport, NbdHandshake } from './nbd-handshake.ts';

/** Where a server is; a host by its address. */
export type NbdPeer = { readonly path: string } | { readonly host: string; readonly port: number };

/** QEMU, which has no deadline of its own, is to wait for no server that does not answer. */
const answerMs = 5000;
/** What others need to connect to a socket: to write to it. */
const writableByOthers = 0o002;

/**
 * What a server states of an export. Throws Error, with a message about the server, for one that can't be reached, does not answer
 * in time, or refuses.
 */
export async function askServer(peer: NbdPeer, name: string, waiting: Waiting): Promise<NbdExport> {
  if ('path' in peer) await answered(peer.path, (path) => stat(path).catch(() => {}), waiting);
  using limited = within(answerMs, waiting);
  using opened = new DisposableStack();
  const socket = opened.adopt(await connectTo(peer), (it) => it.destroy());
  try {
    return await answerOf(socket, name, limited);
  } catch (error) {
    waiting.signal.throwIfAborted();
    if (!limited.signal.aborted) throw error;
    const text = socket.connecting ? 'no connection' : 'connected, but no answer';
    throw new Error(`${text} within ${answerMs / 1000} s`, { cause: error });
  }
}

/** A socket may be replaced by a link at any time: it is connected to as it was looked at. */
async function connectTo(peer: NbdPeer): Promise<Socket> {
  if ('host' in peer) return connect(peer);
  using opened = new DisposableStack();
  const found = opened.adopt(await findSocket(peer.path), closeLater);
  return new Socket({ fd: await connectUnixAside(`/proc/self/fd/${found}`) });
}

/** Whether there is another file of this name, or none, is not for every job to learn. */
async function findSocket(path: string): Promise<number> {
  using opened = new DisposableStack();
  const fd = opened.adopt(await openNamed(path), closeLater);
  const stats = await statAside(fd);
  if (!stats.isSocket()) throw noSocket(path);
  if ((stats.mode & writableByOthers) === 0) {
    throw new Error(
      `a VM is a user of its own and may not connect to ${path}; allow it: chmod o+w ${path}`,
    );
  }
  opened.move();
  return fd;
}

async function openNamed(path: string): Promise<number> {
  try {
    return await openAside(path, pathOnly);
  } catch {
    throw noSocket(path);
  }
}

function noSocket(path: string): Error {
  return new Error(`there is no socket ${path}`);
}

async function answerOf(socket: Socket, name: string, waiting: Waiting): Promise<NbdExport> {
  const handshake = new NbdHandshake(name);
  const { promise, resolve, reject } = Promise.withResolvers<NbdExport>();
  socket.on('error', reject);
  socket.on('close', () => reject(new Error('it hangs up')));
  socket.on('data', (chunk) => {
    try {
      const { send, found } = handshake.push(chunk);
      if (send !== undefined) socket.write(send);
      if (found !== undefined) resolve(found);
    } catch (error) {
      reject(error);
    }
  });
  return await abortable(promise, waiting);
}
