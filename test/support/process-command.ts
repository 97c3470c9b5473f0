import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { PassThrough } from 'node:stream';
import { abortable } from '#host';
import type { Waiting } from '#spec';
import type { GuestCommand, TerminalSize } from '#vm';
import { VmError } from '../../src/vm/error.ts';
import type { ExecRequest } from '../../src/vm/virtualizer.ts';

/**
 * A command "in the guest" of the backend of ordinary processes: a process of this host, in a group of its own. Its
 * terminal is none; a size is a line of its input.
 */
export class ProcessCommand implements GuestCommand {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #terminal: boolean;
  // Node drops what nobody reads of a process that has ended.
  readonly #stdout = new PassThrough();
  readonly #stderr = new PassThrough();
  readonly #exit = Promise.withResolvers<{ exitCode: number; signal: number }>();

  static async start({ command, env, terminal }: ExecRequest): Promise<ProcessCommand> {
    const [program = '', ...args] = command;
    if (program === 'no-agent') throw new VmError('host', 'the guest agent is not connected');
    const child = spawn(program, args, {
      env: { PATH: process.env.PATH, ...env },
      detached: true,
      stdio: 'pipe',
    });
    await once(child, 'spawn');
    return new ProcessCommand(child, terminal);
  }

  private constructor(child: ChildProcessWithoutNullStreams, terminal: boolean) {
    this.#child = child;
    this.#terminal = terminal;
    child.stdout.pipe(this.#stdout);
    child.stderr.pipe(this.#stderr);
    child.stdin.on('error', () => {});
    child.once('exit', (code, name) => {
      const signal = name === null ? 0 : constants.signals[name];
      this.#exit.resolve({ exitCode: code ?? 128 + signal, signal });
    });
  }

  get output(): GuestCommand['output'] {
    return this.#read();
  }

  async *#read(): AsyncGenerator<{ stream: 'stdout' | 'stderr'; data: Uint8Array }> {
    for await (const data of this.#stdout) yield { stream: 'stdout', data };
    for await (const data of this.#stderr) {
      yield { stream: this.#terminal ? 'stdout' : 'stderr', data };
    }
  }

  exit(waiting: Waiting) {
    return abortable(this.#exit.promise, waiting);
  }

  async write(data: Uint8Array, waiting: Waiting): Promise<void> {
    const { stdin } = this.#child;
    if (!stdin.write(data) && stdin.writable) await once(stdin, 'drain', waiting);
  }

  endInput(): void {
    this.#child.stdin.end();
  }

  resize({ rows, columns }: TerminalSize): void {
    this.#child.stdin.write(`${rows}x${columns}\n`);
  }

  [Symbol.dispose](): void {
    const { pid } = this.#child;
    try {
      if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    } catch {
      // The whole group has ended.
    }
  }
}
