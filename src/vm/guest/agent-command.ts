import type { Socket } from 'node:net';
import { abortable, aborted, type Logger, slept, within } from '#host';
import type { ExecStream } from '#qemu';
import { QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import type { CommandExit, GuestCommand, TerminalSize } from '../virtualizer.ts';
import type { AgentLine } from './agent-line.ts';
import { exitOf } from './exit-code.ts';
import { endInputOf, writeTo } from './input.ts';
import type { Piece } from './output.ts';
import { endProgram, type Program, resizeProgram, terminalGreeting } from './scripts.ts';

const agentMs = 5000;
/** A command that ends without a mark, or whose guest was reset, is found out about after this time. */
const statusMs = 1000;
const reapMs = 10_000;
const pollMs = 20;
const defaultSize: TerminalSize = { rows: 24, columns: 80 };
/** Of a program that a signal ended. */
const noCode = 128;

export interface StartedCommand {
  readonly session: string;
  /** Of the command's first process in the guest. */
  readonly pid: number;
  /** Number of its terminal, where it has one. */
  readonly terminal: number | undefined;
  readonly sockets: ReadonlyMap<ExecStream, Socket>;
  readonly agent: AgentLine;
  readonly log: Logger;
  readonly pieces: AsyncGenerator<Piece<ExecStream>, void, undefined>;
  /** Gets what is left to do in the guest; the ports may be removed once it has settled. */
  readonly onDispose: (finished: Promise<void>) => void;
}

/** A command that the guest agent started, with ports of its own for its streams. */
export class AgentCommand implements GuestCommand {
  readonly #command: StartedCommand;
  readonly #input: Socket;
  readonly #disposed = new AbortController();
  readonly #exit = Promise.withResolvers<CommandExit>();
  #size = defaultSize;
  /** The command has begun, with the size known until then. */
  #greeted = false;
  #resizing: Promise<void> | undefined;
  /** The agent has reported the exit, and does not know the pid any more. */
  #reaped = false;
  #ended = false;

  constructor(command: StartedCommand) {
    this.#command = command;
    const input = command.sockets.get('in');
    if (input === undefined) throw new Error('a command has an input');
    this.#input = input;
    this.#exit.promise.catch(() => {});
    void this.#watch();
  }

  get output(): AsyncGenerator<{
    readonly stream: 'stdout' | 'stderr';
    readonly data: Uint8Array;
  }> {
    return this.#read();
  }

  async exit(waiting: Waiting): Promise<CommandExit> {
    return abortable(this.#exit.promise, waiting);
  }

  async write(data: Uint8Array, waiting: Waiting): Promise<void> {
    this.#greet();
    await writeTo(this.#input, data, waiting);
  }

  endInput(): void {
    this.#greet();
    endInputOf(this.#input, this.#command.terminal !== undefined);
  }

  resize(size: TerminalSize): void {
    this.#size = size;
    const { terminal } = this.#command;
    if (terminal !== undefined && this.#greeted) this.#resizing ??= this.#resize(terminal);
  }

  [Symbol.dispose](): void {
    if (this.#disposed.signal.aborted) return;
    this.#disposed.abort();
    for (const socket of this.#command.sockets.values()) socket.destroy();
    this.#command.onDispose(this.#finish());
  }

  async *#read(): AsyncGenerator<{
    readonly stream: 'stdout' | 'stderr';
    readonly data: Uint8Array;
  }> {
    this.#greet();
    for await (const piece of this.#command.pieces) {
      if ('data' in piece) {
        yield { stream: piece.stream === 'err' ? 'stderr' : 'stdout', data: piece.data };
      } else if (piece.mark.kind === 'ended') this.#settle(piece.mark.code, 0);
    }
    // Nothing after the command's end; else QEMU has closed the streams.
    this.#lose(new VmError('host', 'the VM ended while the command ran'));
  }

  /** Before anything else that is written: what comes earlier would be read as the greeting. */
  #greet(): void {
    if (this.#greeted) return;
    this.#greeted = true;
    const { session, terminal } = this.#command;
    if (terminal !== undefined) this.#input.write(terminalGreeting(session, this.#size));
  }

  #settle(code: number, signal: number): void {
    this.#ended = true;
    this.#exit.resolve(exitOf(code, signal));
  }

  async #resize(terminal: number): Promise<void> {
    let size: TerminalSize | undefined;
    while (size !== this.#size && !this.#disposed.signal.aborted) {
      size = this.#size;
      using limited = within(agentMs);
      await this.#run(resizeProgram(`/dev/hvc${terminal}`, size), limited).catch((error: unknown) =>
        this.#command.log.debug('terminal not resized', { error: messageOf(error) }),
      );
    }
    this.#resizing = undefined;
  }

  /** Asks the agent from time to time: a command that was killed with all its shells leaves no mark. */
  async #watch(): Promise<void> {
    while (!this.#reaped && (await slept(statusMs, this.#disposed))) {
      try {
        const status = await this.#status();
        if (status !== undefined && !this.#ended) await this.#readToEnd(status);
      } catch (error) {
        if (!(error instanceof QmpError) || error.code !== 'command') continue;
        this.#reaped = true;
        const message = 'the command was lost: the guest, or its agent, was started again';
        this.#lose(new VmError('host', message, { cause: error }));
      }
    }
  }

  /** The exit as the agent reports it, once. */
  async #status(): Promise<CommandExit | undefined> {
    const { agent, pid } = this.#command;
    using limited = within(agentMs);
    const { exited, exitcode, signal } = await agent.use(
      (session) => session.execute('guest-exec-status', { pid }, limited),
      {},
      limited,
    );
    if (!exited) return undefined;
    this.#reaped = true;
    return { exitCode: exitcode ?? 0, signal: signal ?? 0 };
  }

  /** Without a mark the end of the output is where nothing more comes. */
  async #readToEnd({ exitCode, signal }: CommandExit): Promise<void> {
    const sockets = [...this.#command.sockets.values()];
    const picture = (): string =>
      sockets.map((it) => `${it.bytesRead} ${it.readableLength}`).join();
    let before: string | undefined;
    while (!this.#ended && (before !== picture() || sockets.some((it) => it.readableLength > 0))) {
      before = picture();
      if (!(await slept(statusMs, this.#disposed))) return;
    }
    if (this.#ended) return;
    this.#settle(exitCode, signal);
    for (const socket of sockets) socket.destroy();
  }

  #lose(error: VmError): void {
    this.#exit.reject(error);
    for (const socket of this.#command.sockets.values()) socket.destroy();
  }

  /** Ends what still runs in the guest, and lets the agent forget it. */
  async #finish(): Promise<void> {
    const { session, pid } = this.#command;
    this.#exit.reject(new VmError('host', 'the command was ended'));
    await this.#resizing;
    using limited = within(reapMs);
    if (!this.#ended && !this.#reaped) await this.#run(endProgram(session, pid), limited);
    while (!this.#reaped && (await this.#status()) === undefined) {
      if (!(await slept(pollMs, limited))) return;
    }
  }

  async #run(program: Program, waiting: Waiting): Promise<void> {
    await runToEnd(program, this.#command.agent, waiting);
  }
}

/** Runs a program in the guest that has no streams, to its end; returns the exit code. */
export async function runToEnd(
  program: Program,
  agent: AgentLine,
  waiting: Waiting,
): Promise<number> {
  const { pid } = await agent.use((it) => it.execute('guest-exec', program, waiting), {}, waiting);
  for (;;) {
    const status = await agent.use(
      (it) => it.execute('guest-exec-status', { pid }, waiting),
      {},
      waiting,
    );
    if (status.exited) return status.exitcode ?? noCode;
    if (!(await slept(pollMs, waiting)))
      await aborted(waiting).then(() => waiting.signal.throwIfAborted());
  }
}
