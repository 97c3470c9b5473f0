import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setImmediate as immediate } from 'node:timers/promises';
import { abortable, within } from '#host';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';
import { type Chunks, wholeLetters } from './letters.ts';
import { type Mark, MarkReader } from './marks.ts';

/** Of one stream in one turn of the event loop: a guest may send what looks like marks, thousands in one chunk. */
const piecesInTurn = 64;
/** The rest of a letter that was written at once comes sooner. */
const letterMs = 200;

/** What comes from the guest, in order: output of one of the streams, or a mark. */
export type Piece<N> =
  | { readonly stream: N; readonly data: Uint8Array }
  | { readonly stream: N; readonly mark: Mark };

/** The pieces of one stream, or of several. */
export type Stream<N> = AsyncGenerator<Piece<N>, void, undefined>;

/** The stream that a command reads, and those that it writes. */
export function endsOf<N extends string>(
  sockets: ReadonlyMap<N | 'in', Socket>,
): { readonly input: Socket; readonly outputs: ReadonlyMap<N, Socket> } {
  const input = sockets.get('in');
  if (input === undefined) throw new Error('a command has an input');
  return {
    input,
    outputs: new Map([...sockets].filter((it): it is [N, Socket] => it[0] !== 'in')),
  };
}

/**
 * Output and marks of each stream as they come; each ends with the command's mark, or with its socket. What comes from a
 * terminal has whole letters: Nomad's web UI decodes each message for itself.
 */
export function streamsOf<N extends string>(
  sockets: ReadonlyMap<N, Socket>,
  { session, terminal }: { readonly session: string; readonly terminal: boolean },
): ReadonlyMap<N, Stream<N>> {
  return new Map(
    [...sockets].map(([name, socket]) => {
      const chunks = chunksOf(socket);
      const shown = terminal ? wholeLetters(chunks, () => hasMore(socket)) : chunks;
      return [name, pieces(name, shown, session)];
    }),
  );
}

/** What comes of several streams. At most one chunk of each is read ahead. */
export async function* piecesOf<N extends string>(streams: ReadonlyMap<N, Stream<N>>): Stream<N> {
  const open = new Set(streams.values());
  const come: { readonly stream: Stream<N>; readonly next: ReturnType<Stream<N>['next']> }[] = [];
  let wake = (): void => {};
  const ask = (stream: Stream<N>): void => {
    const next = stream.next();
    const report = (): void => {
      come.push({ stream, next });
      wake();
    };
    // Listened to once: Promise.race would keep each piece until the other stream, which may be silent, has one.
    next.then(report, report);
  };
  open.forEach(ask);
  while (open.size > 0) {
    const first = come.shift();
    if (first === undefined) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      continue;
    }
    const { value, done } = await first.next;
    if (done === true) open.delete(first.stream);
    else {
      // Asked again before the piece is passed on: the other stream may have its turn meanwhile.
      ask(first.stream);
      yield value;
    }
  }
}

async function* pieces<N>(stream: N, chunks: Chunks, session: string): Stream<N> {
  const reader = new MarkReader(session);
  let count = 0;
  for await (const chunk of chunks) {
    for (const piece of reader.push(chunk)) {
      count += 1;
      if (count % piecesInTurn === 0) await immediate();
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

async function hasMore(socket: Socket): Promise<boolean> {
  if (socket.readableLength > 0) return true;
  using limited = within(letterMs);
  // An error is reported to the reader.
  await once(socket, 'readable', limited).catch(() => {});
  return socket.readableLength > 0;
}

/** A socket that is destroyed, or reset by QEMU's end, is at its end. It stays open for a caller that stops early. */
async function* chunksOf(socket: Socket): Chunks {
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) yield chunk;
  } catch (error) {
    if (!socket.destroyed) throw error;
  }
}

/**
 * Of the script in the guest: the number of the console that it has found. What came before in this stream is not the
 * command's; a stream that the command alone writes to must not be read for this.
 */
export async function beginningOf<N>(
  stream: Stream<N> | undefined,
  waiting: Waiting,
): Promise<number> {
  if (stream === undefined) throw new Error('a command has an output');
  for (;;) {
    const { value, done } = await abortable(stream.next(), waiting);
    if (done === true) throw new VmError('host', 'the VM ended before the command began');
    if ('mark' in value && value.mark.kind === 'begun') return value.mark.terminal;
  }
}
