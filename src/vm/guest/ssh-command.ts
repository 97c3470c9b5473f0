import type { Socket } from 'node:net';
import { abortable, type Logger, within } from '#host';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import type { CommandExit, GuestCommand, TerminalSize } from '../virtualizer.ts';
import { exitOf } from './exit-code.ts';
import { endInputOf, writeTo } from './input.ts';
import type { Piece } from './output.ts';
import { type Program, resizeProgram } from './scripts.ts';
import { closeStreams, type SshProcess, type SshStream } from './ssh-connection.ts';

const resizeMs = 5000;
const defaultSize: TerminalSize = { rows: 24, columns: 80 };
/** Of ssh itself, where it has no exit code of the command. */
const lostCode = 255;

export interface StartedBySsh {
  readonly process: SshProcess;
  /** Number of its terminal, where it has one. */
  readonly terminal: number | undefined;
  readonly pieces: AsyncGenerator<Piece<SshStream>, void, undefined>;
  /** What the loader in the guest reads, once the size of the terminal is known. */
  readonly load: (size: TerminalSize) => string;
  /** Runs a program without streams in the guest, to its end. */
  readonly run: (program: Program, waiting: Waiting) => Promise<void>;
  /** Ends what of the command still runs, unless it has ended by itself. */
  readonly onDispose: (ended: boolean) => void;
  readonly log: Logger;
}

/** A command that sshd started in the guest, with the streams of a process of ssh. */
export class SshCommand implements GuestCommand {
  readonly #command: StartedBySsh;
  readonly #input: Socket;
  readonly #exit = Promise.withResolvers<CommandExit>();
  #size = defaultSize;
  #loaded = false;
  #ended = false;
  #disposed = false;
  #resizing: Promise<void> | undefined;

  constructor(command: StartedBySsh) {
    this.#command = command;
    const input = command.process.sockets.get('in');
    if (input === undefined) throw new Error('a command has an input');
    this.#input = input;
    this.#exit.promise.catch(() => {});
    if (command.terminal === undefined) this.#load();
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
    this.#load();
    await writeTo(this.#input, data, waiting);
  }

  endInput(): void {
    this.#load();
    endInputOf(this.#input, this.#command.terminal !== undefined);
  }

  resize(size: TerminalSize): void {
    this.#size = size;
    const { terminal } = this.#command;
    if (terminal !== undefined && this.#loaded) this.#resizing ??= this.#resize(terminal);
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#exit.reject(new VmError('host', 'the command was ended'));
    closeStreams(this.#command.process);
    this.#command.onDispose(this.#ended);
  }

  async *#read(): AsyncGenerator<{
    readonly stream: 'stdout' | 'stderr';
    readonly data: Uint8Array;
  }> {
    this.#load();
    for await (const piece of this.#command.pieces) {
      if ('data' in piece) {
        yield { stream: piece.stream === 'err' ? 'stderr' : 'stdout', data: piece.data };
      } else if (piece.mark.kind === 'ended') {
        this.#ended = true;
        this.#exit.resolve(exitOf(piece.mark.code));
      }
    }
    // A command that was killed with all its shells leaves no mark; else the connection has ended.
    if (!this.#ended) await this.#endWithout();
  }

  async #endWithout(): Promise<void> {
    const { code } = await this.#command.process.exit;
    if (code !== null && code !== lostCode) this.#exit.resolve(exitOf(code));
    const message = 'the command was lost: it was killed in the guest, or the connection ended';
    this.#exit.reject(new VmError('host', message));
  }

  /** The command begins, with the size known until then. */
  #load(): void {
    if (this.#loaded) return;
    this.#loaded = true;
    this.#input.write(this.#command.load(this.#size));
  }

  async #resize(terminal: number): Promise<void> {
    const { run, log } = this.#command;
    let size: TerminalSize | undefined;
    while (size !== this.#size && !this.#disposed) {
      size = this.#size;
      using limited = within(resizeMs);
      await run(resizeProgram(`/dev/pts/${terminal}`, size), limited).catch((error: unknown) =>
        log.debug('terminal not resized', { error: messageOf(error) }),
      );
    }
    this.#resizing = undefined;
  }
}
