import { closeFd, type Logger } from '#host';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';
import type { VmPaths } from '../store/paths.ts';
import { ConsoleFeed } from './console-feed.ts';
import { LogRelay } from './log-relay.ts';
import { openLogSink } from './log-sink.ts';
import { type OperatorConsole, type OperatorPaths, openConsole } from './operator-console.ts';

export interface TaskLogsOptions {
  /** Nomad's log pipes, in the allocation's directory. */
  readonly stdoutPath: string;
  readonly stderrPath: string;
  readonly allocDir: string;
  readonly paths: Pick<VmPaths, 'console' | 'messages' | keyof OperatorPaths>;
  /** Whether the VM has an interactive console, and runs. */
  readonly interactive: boolean;
  readonly log: Logger;
  /** Called with the current length of a history, holes included. */
  readonly onGrowth: (bytes: number) => void;
}

interface HeldPipe {
  readonly role: 'stdout' | 'stderr';
  readonly fd: number;
}

/**
 * Both logs of a task: the guest's console on its stdout, QEMU's own messages on its stderr. And the console for operators.
 */
export class TaskLogs implements AsyncDisposable {
  /** What the guest writes on its console. */
  readonly console: ConsoleFeed;
  readonly #relays: readonly LogRelay[];
  readonly #operators: OperatorConsole | undefined;
  #held: readonly HeldPipe[];

  private constructor(
    relays: readonly LogRelay[],
    {
      console,
      held,
      operators,
    }: {
      readonly console: ConsoleFeed;
      readonly held: readonly HeldPipe[];
      readonly operators: OperatorConsole | undefined;
    },
  ) {
    this.console = console;
    this.#relays = relays;
    this.#held = held;
    this.#operators = operators;
  }

  /** Starts forwarding what QEMU appends to the histories. A log that can't be opened is reported and left out. */
  static open({
    allocDir,
    paths,
    interactive,
    log,
    onGrowth,
    ...pipes
  }: TaskLogsOptions): TaskLogs {
    const streams = [
      { role: 'stdout', pipe: pipes.stdoutPath, history: paths.console },
      { role: 'stderr', pipe: pipes.stderrPath, history: paths.messages },
    ] as const;
    const console = new ConsoleFeed();
    const held: HeldPipe[] = [];
    const relays = streams.flatMap(({ role, pipe, history }) => {
      const sink = openLogSink({ path: pipe, allocDir }, log);
      if (sink !== undefined) held.push({ role, fd: sink.held });
      const onOutput = (bytes: Uint8Array) => role === 'stdout' && console.push(bytes);
      return openRelay({ history, sink, log, onGrowth, onOutput });
    });
    const operators = interactive ? openConsole(paths, log, onGrowth) : undefined;
    return new TaskLogs(relays, { console, held, operators });
  }

  /** The descriptors for QEMU to hold, so that the readers see no end of the log; the caller owns them from then on. */
  takeHeld(): readonly HeldPipe[] {
    const held = this.#held;
    this.#held = [];
    return held;
  }

  /** Forwards what is left, until the signal aborts, and closes. For after the end of QEMU. */
  async finish(waiting: Waiting): Promise<void> {
    this.#closeHeld();
    await Promise.all(this.#relays.map((relay) => relay.finish(waiting)));
    await this.#operators?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closeHeld();
    for (const relay of this.#relays) await relay[Symbol.asyncDispose]();
    await this.#operators?.[Symbol.asyncDispose]();
  }

  #closeHeld(): void {
    for (const { fd } of this.takeHeld()) closeFd(fd);
  }
}

/** A relay for one log, or none where its history can't be opened: that must not stop the VM. */
function openRelay({
  history,
  sink,
  log,
  onGrowth,
  onOutput,
}: {
  readonly history: string;
  readonly sink: { readonly fd: number } | undefined;
  readonly log: Logger;
  readonly onGrowth: (bytes: number) => void;
  readonly onOutput: (bytes: Uint8Array) => void;
}): readonly LogRelay[] {
  try {
    const mark = `${history}.mark`;
    return [LogRelay.open({ history, mark, sink: sink?.fd, log, onGrowth, onOutput })];
  } catch (error) {
    if (sink !== undefined) closeFd(sink.fd);
    log.warn('log is not forwarded', { history, error: messageOf(error) });
    return [];
  }
}
