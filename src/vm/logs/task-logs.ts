import { closeFd, type Logger } from '#host';
import type { Waiting } from '#spec';
import type { VmPaths } from '../store/paths.ts';
import { type LogRelay, openRelay } from './log-relay.ts';
import { openLogSink } from './log-sink.ts';

export interface TaskLogsOptions {
  /** Nomad's log pipes, in the allocation's directory. */
  readonly stdoutPath: string;
  readonly stderrPath: string;
  readonly allocDir: string;
  readonly paths: Pick<VmPaths, 'console' | 'messages'>;
  readonly log: Logger;
  /** Called with the length that a history has come to, holes included. */
  readonly onGrowth: (bytes: number) => void;
}

interface HeldPipe {
  readonly role: 'stdout' | 'stderr';
  readonly fd: number;
}

/** Both logs of a task: the guest's console on its stdout, QEMU's own messages on its stderr. */
export class TaskLogs implements AsyncDisposable {
  readonly #relays: readonly LogRelay[];
  #held: readonly HeldPipe[];

  private constructor(relays: readonly LogRelay[], held: readonly HeldPipe[]) {
    this.#relays = relays;
    this.#held = held;
  }

  /** Starts passing on what QEMU appends to the histories. A log that can't be opened is reported and left out. */
  static open({ allocDir, paths, log, onGrowth, ...pipes }: TaskLogsOptions): TaskLogs {
    const streams = [
      { role: 'stdout', pipe: pipes.stdoutPath, history: paths.console },
      { role: 'stderr', pipe: pipes.stderrPath, history: paths.messages },
    ] as const;
    const held: HeldPipe[] = [];
    const relays = streams.flatMap(({ role, pipe, history }) => {
      const sink = openLogSink({ path: pipe, allocDir }, log);
      if (sink !== undefined) held.push({ role, fd: sink.held });
      return openRelay({ history, sink, log, onGrowth });
    });
    return new TaskLogs(relays, held);
  }

  /** The pipes' ends for QEMU to hold, so that their readers meet no end of the log; the caller's from here on. */
  takeHeld(): readonly HeldPipe[] {
    const held = this.#held;
    this.#held = [];
    return held;
  }

  /** Passes on what is left, for as long as the signal allows, and closes. For when QEMU is gone. */
  async finish(waiting: Waiting): Promise<void> {
    this.#closeHeld();
    await Promise.all(this.#relays.map((relay) => relay.finish(waiting)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closeHeld();
    for (const relay of this.#relays) await relay[Symbol.asyncDispose]();
  }

  #closeHeld(): void {
    for (const { fd } of this.takeHeld()) closeFd(fd);
  }
}
