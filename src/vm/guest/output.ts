import type { Socket } from 'node:net';
import { abortable } from '#host';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';
import { type Mark, MarkReader } from './marks.ts';

/** What comes from the guest, in order: output of one of the streams, or a mark. */
export type Piece<N> =
  | { readonly stream: N; readonly data: Uint8Array }
  | { readonly stream: N; readonly mark: Mark };

/** The streams of a command that it writes. */
export function outputsOf<N extends string>(
  sockets: ReadonlyMap<N | 'in', Socket>,
): ReadonlyMap<N, Socket> {
  return new Map([...sockets].filter((it): it is [N, Socket] => it[0] !== 'in'));
}

/**
 * Output and marks of several streams as they come; each stream ends with the command's mark, or with its socket. At most
 * one chunk of each is read ahead.
 */
export async function* piecesOf<N extends string>(
  sockets: ReadonlyMap<N, Socket>,
  session: string,
): AsyncGenerator<Piece<N>, void, undefined> {
  const streams = [...sockets].map(([name, socket]) => pieces(name, socket, session));
  const coming = new Map(streams.map((stream) => [stream, next(stream)]));
  while (coming.size > 0) {
    const { stream, result } = await Promise.race(coming.values());
    if (result.done === true) coming.delete(stream);
    else {
      // Asked again before the piece is passed on: the other stream may have its turn meanwhile.
      coming.set(stream, next(stream));
      yield result.value;
    }
  }
}

async function next<N>(stream: AsyncGenerator<Piece<N>, void, undefined>) {
  return { stream, result: await stream.next() };
}

async function* pieces<N>(
  stream: N,
  socket: Socket,
  session: string,
): AsyncGenerator<Piece<N>, void, undefined> {
  const reader = new MarkReader(session);
  for await (const chunk of chunksOf(socket)) {
    for (const piece of reader.push(chunk)) {
      if (piece instanceof Uint8Array) yield { stream, data: piece };
      else {
        yield { stream, mark: piece };
        if (piece.kind === 'ended') return;
      }
    }
  }
  const rest = reader.rest();
  if (rest.length > 0) yield { stream, data: rest };
}

/** A socket that is destroyed, or reset by QEMU's end, is at its end. It stays open for a caller that stops early. */
async function* chunksOf(socket: Socket): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) yield chunk;
  } catch (error) {
    if (!socket.destroyed) throw error;
  }
}

/** Of the script in the guest: the number of the console that it has found. What came before is not the command's. */
export async function beginningOf<N>(
  pieces: AsyncGenerator<Piece<N>, void, undefined>,
  waiting: Waiting,
): Promise<number> {
  for (;;) {
    const { value, done } = await abortable(pieces.next(), waiting);
    if (done === true) throw new VmError('host', 'the VM ended before the command began');
    if ('mark' in value && value.mark.kind === 'begun') return value.mark.terminal;
  }
}
