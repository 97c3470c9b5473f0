import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Waiting } from '#spec';
import { type Commands, decodeAnswer } from './commands.ts';
import { QmpError } from './error.ts';
import { EventQueue } from './event-queue.ts';
import { FrameReader, formatCommand } from './frame.ts';
import { Greeting } from './greeting.ts';
import { parseMessage, type QmpEvent, type QmpMessage } from './message.ts';
import { connectMonitor } from './monitor-socket.ts';
import { type Pass, passOn } from './passing.ts';
import { PendingCalls, timedOut } from './pending-calls.ts';

/** A chunk of this size has more behind it: a flood of events, or a large answer. */
const largeChunkBytes = 32 * 1024;

/** Unsent bytes at which a call is refused: an emulator that no longer reads must not fill our memory. */
const maxUnsentBytes = 1024 * 1024;

/**
 * A QMP session. What QEMU sends is read at once, whether or not a caller waits for it. The end of the session settles
 * every waiting call and listener. Errors of the socket end the session and nothing else.
 */
export class QmpClient implements AsyncDisposable {
  /** Settles when the session is over, for any reason; never rejects. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #frames = new FrameReader();
  readonly #calls = new PendingCalls();
  readonly #queues = new Set<EventQueue>();
  readonly #greeting = new Greeting();
  readonly #closed = Promise.withResolvers<void>();
  /** Why the session ended, and whether it broke; undefined while it lasts. The first cause is kept. */
  #end: { readonly error: QmpError; readonly broke: boolean } | undefined;

  /** Connects to the monitor's socket. Throws QmpError `connect` where nothing listens, then as `negotiate`. */
  static async connect(path: string, waiting: Waiting): Promise<QmpClient> {
    return QmpClient.negotiate(await connectMonitor(path, waiting), waiting);
  }

  /** The same with a first command that is sent at once. Throws what `connect` and `execute` throw. */
  static async connectWith<C extends keyof Commands>(
    path: string,
    [command, parameters]: readonly [C, Commands[C]['arguments']],
    waiting: Waiting,
  ): Promise<{ readonly qmp: QmpClient; readonly answer: Commands[C]['return'] }> {
    const qmp = new QmpClient(await connectMonitor(path, waiting));
    const answers = [qmp.#negotiate(waiting), qmp.execute(command, parameters, waiting)] as const;
    const [, answer] = await qmp.#unlessFailed(Promise.all(answers));
    return { qmp, answer };
  }

  /**
   * Awaits the greeting on a connected socket and leaves negotiation mode. The listener may be one that QEMU inherits
   * later; the greeting comes then. The client owns the socket from here on, also when this throws.
   */
  static async negotiate(socket: Socket, waiting: Waiting): Promise<QmpClient> {
    const client = new QmpClient(socket);
    await client.#unlessFailed(client.#negotiate(waiting));
    return client;
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = this.#closed.promise;
    const closed = (): void =>
      this.#finish(new QmpError('closed', 'the QMP connection is closed'), false);
    socket.on('error', (cause) =>
      this.#finish(new QmpError('closed', 'the QMP connection broke', { cause }), true),
    );
    socket.on('end', () => this.#finishAtEnd());
    socket.on('close', closed);
    socket.on('data', (chunk: Buffer) => {
      this.#receive(chunk);
      if (chunk.length >= largeChunkBytes) this.#yield();
    });
    if (socket.destroyed || socket.readableEnded) closed();
  }

  /**
   * Sends a command and awaits its answer. Throws QmpError `command` where QEMU refuses, `timeout` when the signal
   * aborts first (QEMU may still carry it out; its answer is then dropped), `closed` when the session ends, `protocol`
   * where the answer does not have the command's type.
   */
  async execute<C extends keyof Commands>(
    command: C,
    parameters: Commands[C]['arguments'],
    waiting: Waiting,
  ): Promise<Commands[C]['return']> {
    return decodeAnswer(command, await this.#call(command, parameters, waiting));
  }

  /** The same for a command that takes a file, which `pass` sends with the command's bytes. */
  async executeWith<C extends keyof Commands>(
    pass: Pass,
    command: C,
    parameters: Commands[C]['arguments'],
    waiting: Waiting,
  ): Promise<Commands[C]['return']> {
    const send = (text: string): void => {
      passOn(this.#socket, Buffer.from(text), pass, waiting).catch((cause: unknown) =>
        // Part of it may be on its way: nothing that followed would be understood.
        this.#finish(new QmpError('closed', `${command} was not sent`, { cause }), true),
      );
    };
    return decodeAnswer(command, await this.#call(command, parameters, waiting, send));
  }

  /** Commands that `begin` begins at once leave in one piece: writing wakes up QEMU, which costs more than they do. */
  together<T>(begin: () => T): T {
    this.#socket.cork();
    try {
      return begin();
    } finally {
      this.#socket.uncork();
    }
  }

  /**
   * Events from this call on, whether iteration has begun or not. The iteration ends when the session ends in order
   * (closed here, or by QEMU between two lines). It throws QmpError when the session broke, when the signal aborts, or
   * when more events were left unread than are kept.
   */
  events(waiting?: Waiting): AsyncIterableIterator<QmpEvent> & AsyncDisposable {
    const abort = (): void => {
      if (waiting !== undefined) queue.end(timedOut('waiting for QMP events', waiting));
    };
    const queue = new EventQueue((ended) => {
      this.#queues.delete(ended);
      waiting?.signal.removeEventListener('abort', abort);
    });
    this.#queues.add(queue);
    waiting?.signal.addEventListener('abort', abort, { once: true });
    if (waiting?.signal.aborted) abort();
    if (this.#end !== undefined) queue.end(this.#end.broke ? this.#end.error : undefined);
    return queue;
  }

  /** Closes the session; calls in flight fail with QmpError `closed`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#finish(new QmpError('closed', 'the QMP connection was closed here'), false);
    if (!this.#socket.closed) await once(this.#socket, 'close').catch(ignore);
  }

  async #negotiate(waiting: Waiting): Promise<void> {
    // QEMU reads what was sent before its greeting after it: no round trip is waited for.
    const negotiated = this.#call('qmp_capabilities', {}, waiting);
    await Promise.all([this.#greeting.wait(waiting), negotiated]);
  }

  /** Closes the session where the beginning of it fails. */
  async #unlessFailed<T>(begun: Promise<T>): Promise<T> {
    try {
      return await begun;
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw error;
    }
  }

  #call(
    command: string,
    parameters: object,
    waiting: Waiting,
    send = (text: string): unknown => this.#socket.write(text),
  ): Promise<unknown> {
    const refusal = this.#refusal(command, waiting);
    if (refusal !== undefined) return Promise.reject(refusal);
    const { id, answer } = this.#calls.open(command, waiting);
    send(formatCommand(command, parameters, id));
    return answer;
  }

  #refusal(command: string, waiting: Waiting): QmpError | undefined {
    if (this.#end !== undefined) {
      const cause = this.#end.error;
      return new QmpError('closed', `${command} was not sent: ${cause.message}`, { cause });
    }
    if (waiting.signal.aborted) return timedOut(command, waiting);
    if (this.#socket.writableLength > maxUnsentBytes) {
      return new QmpError('timeout', `${command} was not sent: QEMU has stopped reading commands`);
    }
    return undefined;
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const text of this.#frames.push(chunk)) {
        if (this.#end !== undefined) return;
        this.#route(parseMessage(text), text.length);
      }
    } catch (error) {
      if (!(error instanceof QmpError)) throw error;
      this.#finish(error, true);
    }
  }

  /** libuv goes on reading while there is more, up to 2 MiB, before any other work of this process is done. */
  #yield(): void {
    this.#socket.pause();
    setImmediate(() => this.#socket.resume());
  }

  #route(message: QmpMessage, bytes: number): void {
    switch (message.kind) {
      case 'greeting':
        this.#greeting.arrive();
        return;
      case 'reply':
        this.#calls.resolve(message.id, message.value);
        return;
      case 'error':
        this.#routeError(message);
        return;
      case 'event':
        for (const queue of this.#queues) queue.push(message.event, bytes);
        return;
      default:
        message satisfies never;
    }
  }

  #routeError(message: QmpMessage & { readonly kind: 'error' }): void {
    const { id, description } = message;
    if (id === undefined && this.#calls.size > 0) {
      // QEMU could not parse a command, so one of these calls will never be answered.
      throw new QmpError('protocol', `QEMU did not understand a command: ${description}`);
    }
    this.#calls.refuse(id, description);
  }

  #finishAtEnd(): void {
    if (this.#frames.unfinished) {
      this.#finish(new QmpError('protocol', 'the QMP connection ended inside a line'), true);
    } else this.#finish(new QmpError('closed', 'QEMU closed the QMP connection'), false);
  }

  #finish(error: QmpError, broke: boolean): void {
    if (this.#end !== undefined) return;
    this.#end = { error, broke };
    this.#socket.destroy();
    this.#greeting.fail(error);
    this.#calls.rejectAll(error);
    for (const queue of [...this.#queues]) queue.end(broke ? error : undefined);
    this.#closed.resolve();
  }
}

function ignore(): void {}
