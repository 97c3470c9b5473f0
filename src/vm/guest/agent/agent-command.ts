import { aborted, slept, within } from '#host';
import type { ExecStream } from '#qemu';
import { QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { VmError } from '../../error.ts';
import type { CommandExit } from '../../virtualizer.ts';
import { endProgram, type Program, resizeProgram, terminalGreeting } from '../scripts.ts';
import { type CommandStreams, exitOf, isExit, StreamedCommand } from '../streamed-command.ts';
import type { AgentLine } from './agent-line.ts';

const agentMs = 5000;
/** A command that ends without a mark, or whose guest was reset, is found out about after this time. */
const statusMs = 1000;
const reapMs = 10_000;
const pollMs = 20;
/** Of a program that a signal ended. */
const noCode = 128;

export interface StartedCommand
  extends Pick<CommandStreams<ExecStream>, 'input' | 'outputs' | 'pieces' | 'log'> {
  readonly session: string;
  /** Of the command's first process in the guest. */
  readonly pid: number;
  /** Number of its terminal, where it has one. */
  readonly terminal: number | undefined;
  readonly agent: AgentLine;
  /** Gets what is left to do in the guest; the ports may be removed once it has settled. */
  readonly onDispose: (finished: Promise<void>) => void;
}

/** A command that the guest agent started, with ports of its own for its streams. */
export class AgentCommand extends StreamedCommand<ExecStream> {
  readonly #command: StartedCommand;
  readonly #left = new AbortController();
  /** The agent has reported the exit, and does not know the pid any more. */
  #reaped = false;
  /** An answer that did not come in time may have been the report of the exit. */
  #missedAnswer = false;
  /** Its shells were killed; what they had started may go on. */
  #unmarked = false;

  constructor(command: StartedCommand) {
    const { session, agent, terminal } = command;
    super({
      ...command,
      // A command without a terminal was greeted when it was started.
      greeting: (size) => (terminal === undefined ? '' : terminalGreeting(session, size)),
      resize:
        terminal === undefined
          ? undefined
          : (size, waiting) => runToEnd(resizeProgram(`/dev/hvc${terminal}`, size), agent, waiting),
    });
    this.#command = command;
    void this.#watch();
  }

  protected override leave(): void {
    this.#left.abort();
    this.#command.onDispose(this.#finish());
  }

  /** Nothing more comes after the command's end; else QEMU has closed the streams. */
  protected override async endWithoutMark(): Promise<void> {
    this.lose(new VmError('host', 'the VM ended while the command ran'));
  }

  /** Asks the agent from time to time: a command that was killed with all its shells leaves no mark. */
  async #watch(): Promise<void> {
    while (!this.#reaped && !this.wasReset && (await slept(statusMs, this.#left))) {
      try {
        const status = await this.#status();
        if (status !== undefined && (await this.#isSilent())) this.#settleUnmarked(status);
      } catch (error) {
        if (!(error instanceof QmpError) || error.code !== 'command') {
          this.#missedAnswer = true;
          continue;
        }
        this.#reaped = true;
        if (this.#missedAnswer && !(await this.#isSilent())) return;
        const message = 'the command was lost: the guest, or its agent, was started again';
        this.lose(new VmError('host', message, { cause: error }));
      }
    }
  }

  #settleUnmarked({ exitCode, signal }: CommandExit): void {
    this.#unmarked = true;
    if (isExit({ exitCode, signal })) {
      this.settle(exitOf(exitCode, signal));
      this.closeStreams();
    } else {
      const reported = `code ${exitCode}, signal ${signal}`;
      const message = `the guest agent reports an exit that no program has: ${reported}`;
      this.lose(new VmError('host', message));
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

  /** Without a mark the end of the output is where nothing more comes: true once it is there, false where a mark came. */
  async #isSilent(): Promise<boolean> {
    const sockets = [...this.#command.outputs.values()];
    const picture = (): string =>
      sockets.map((it) => `${it.bytesRead} ${it.readableLength}`).join();
    let before: string | undefined;
    while (!this.ended && (before !== picture() || sockets.some((it) => it.readableLength > 0))) {
      before = picture();
      if (!(await slept(statusMs, this.#left))) return false;
    }
    return !this.ended;
  }

  /** Ends what still runs in the guest, and lets the agent forget it. */
  async #finish(): Promise<void> {
    const { session, pid, agent } = this.#command;
    await this.resized;
    if (this.wasReset) return;
    using limited = within(reapMs);
    // A pid that the agent has forgotten may be that of another process.
    const leader = this.#reaped ? undefined : pid;
    if (!this.ended || this.#unmarked) await runToEnd(endProgram(session, leader), agent, limited);
    while (!this.#reaped && (await this.#status()) === undefined) {
      if (!(await slept(pollMs, limited))) return;
    }
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
