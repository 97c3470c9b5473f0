import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { type Logger, listenUnix, within } from '#host';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import { type ControlAnswer, type ControlRequest, decodeRequest } from './request.ts';

const requestMs = 5000;
const maxConnections = 8;
/** The longest one has two names and a path. */
const maxRequestBytes = 64 * 1024;

/** Does what a request asks for, reporting how far it has come. Returns a sentence about the result. Throws VmError. */
export type Serve = (
  request: ControlRequest,
  report: (text: string) => void,
  waiting: Waiting,
) => Promise<string>;

/**
 * The socket at which root asks for changes to one VM while it runs: a request and its answers are lines of JSON. Who
 * hangs up cancels what is not done yet.
 */
export class ControlSocket implements Disposable {
  readonly #server: Server;
  readonly #serve: Serve;

  private constructor(fd: number, serve: Serve, log: Logger) {
    this.#serve = serve;
    this.#server = createServer((socket) => void this.#answer(socket));
    this.#server.maxConnections = maxConnections;
    this.#server.on('error', (error) => log.warn('no control of the VM', { error: error.message }));
    this.#server.listen({ fd });
    this.#server.unref();
  }

  /** Takes the place of another plugin process at the socket. Where it can't be served, the VM runs nevertheless. */
  static open(path: string, serve: Serve, log: Logger): ControlSocket | undefined {
    try {
      rmSync(path, { force: true });
      return new ControlSocket(listenUnix(path), serve, log);
    } catch (error) {
      log.debug('no control of the VM', { error: messageOf(error) });
      return undefined;
    }
  }

  /** What was asked is still answered. */
  [Symbol.dispose](): void {
    this.#server.close();
  }

  async #answer(socket: Socket): Promise<void> {
    socket.on('error', () => {});
    const hungUp = new AbortController();
    socket.once('close', () => hungUp.abort());
    const send = (answer: ControlAnswer): void => {
      if (socket.writable) socket.write(`${JSON.stringify(answer)}\n`);
    };
    const report = (text: string): void => send({ kind: 'progress', text });
    try {
      const request = decodeRequest(await firstLine(socket, hungUp));
      send({ kind: 'done', text: await this.#serve(request, report, hungUp) });
    } catch (error) {
      send({ kind: 'error', text: messageOf(error) });
    }
    socket.end();
  }
}

/** Leaves the socket flowing: what follows goes nowhere, but shows that the other side hangs up. */
async function firstLine(socket: Socket, waiting: Waiting): Promise<string> {
  using limited = within(requestMs, waiting);
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let line = Buffer.alloc(0);
  const read = (chunk: Buffer): void => {
    const end = chunk.indexOf('\n');
    line = Buffer.concat([line, end < 0 ? chunk : chunk.subarray(0, end)]);
    if (line.length > maxRequestBytes) {
      reject(new VmError('host', `a request has at most ${maxRequestBytes} bytes`));
    } else if (end >= 0) resolve(line.toString());
    else return;
    socket.off('data', read);
  };
  const isMissing = (): void => reject(new VmError('host', 'the request did not arrive'));
  socket.on('data', read).once('end', isMissing);
  limited.signal.addEventListener('abort', isMissing);
  return await promise;
}
