import { once } from 'node:events';
import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { abortable, aborted, type Logger, within } from '#host';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import type { CommandExit, GuestCommand, TerminalSize } from '../virtualizer.ts';
import type { Piece, Stream } from './output.ts';
import { guestWasReset } from './way.ts';

const resizeMs = 5000;
const resizeAgainMs = 250;
const maxTries = 5;
/** Ctrl-D, the end of input at a terminal. */
const endOfTerminal = '\x04';
/** Of a terminal until it is given one. */
export const defaultSize: TerminalSize = { rows: 24, columns: 80 };
const noSignal = 128;
const maxCode = 255;
const maxSignal = 64;

export interface CommandStreams<N extends string> {
  readonly input: Writable;
  readonly outputs: ReadonlyMap<N, Socket>;
  readonly pieces: Stream<N>;
  /** What the command waits for in the guest, before all input. */
  readonly greeting: (size: TerminalSize) => string;
  /** Sets the size of its terminal, where the command has one. */
  readonly resize: ((size: TerminalSize, waiting: Waiting) => Promise<unknown>) | undefined;
  readonly log: Logger;
}

/** A command whose end is a mark in its output. How it is ended otherwise depends on its way. */
export abstract class StreamedCommand<N extends string> implements GuestCommand {
  readonly #streams: CommandStreams<N>;
  readonly #exit = Promise.withResolvers<CommandExit>();
  #size = defaultSize;
  #begun = false;
  /** Settles once input has its meaning: at a terminal when that is set up. Gives what came in the place of this report. */
  #open: Promise<Piece<N> | undefined> = Promise.resolve(undefined);
  #ended = false;
  #wasReset = false;
  #disposed = false;
  #resizing: Promise<void> | undefined;

  protected constructor(streams: CommandStreams<N>) {
    this.#streams = streams;
    this.#exit.promise.catch(() => {});
  }

  get output(): GuestCommand['output'] {
    return this.#read();
  }

  async exit(waiting: Waiting): Promise<CommandExit> {
    return abortable(this.#exit.promise, waiting);
  }

  async write(data: Uint8Array, waiting: Waiting): Promise<void> {
    this.begin();
    await abortable(this.#open, waiting);
    await writeTo(this.#streams.input, data, waiting);
  }

  endInput(): void {
    this.begin();
    const { input, resize } = this.#streams;
    if (resize === undefined) input.end();
    else void this.#open.then(() => input.write(endOfTerminal));
  }

  resize(size: TerminalSize): void {
    this.#size = size;
    if (this.#begun) this.#resizing ??= this.#resize();
  }

  /** The guest boots again. */
  reset(): void {
    this.#wasReset = true;
    this.lose(guestWasReset());
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.lose(new VmError('host', 'the command was ended'));
    this.leave();
  }

  /** Ends what of it still runs in the guest. Called once; the exit is settled, and the streams are closed. */
  protected abstract leave(): void;

  /** The streams have ended without a mark, and the exit may be settled already; this has to settle it. */
  protected abstract endWithoutMark(): Promise<void>;

  /** Its exit is known. */
  protected get ended(): boolean {
    return this.#ended;
  }

  protected get wasReset(): boolean {
    return this.#wasReset;
  }

  /** Settles once no change of the size is on its way. */
  protected get resized(): Promise<void> {
    return this.#resizing ?? Promise.resolve();
  }

  /** The command begins, with the size known until then. */
  protected begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const { input, greeting, resize, pieces } = this.#streams;
    input.write(greeting(this.#size));
    if (resize !== undefined) this.#open = reportOf(pieces);
  }

  protected settle(exit: CommandExit): void {
    this.#ended = true;
    this.#exit.resolve(exit);
  }

  protected lose(error: VmError): void {
    this.#exit.reject(error);
    this.closeStreams();
  }

  protected closeStreams(): void {
    const { input, outputs } = this.#streams;
    for (const stream of [input, ...outputs.values()]) stream.destroy();
  }

  async *#read(): AsyncGenerator<{
    readonly stream: 'stdout' | 'stderr';
    readonly data: Uint8Array;
  }> {
    this.begin();
    for await (const piece of this.#pieces()) {
      if ('data' in piece) {
        yield { stream: piece.stream === 'err' ? 'stderr' : 'stdout', data: piece.data };
      } else if (piece.mark.kind === 'ended') this.settle(exitOf(piece.mark.code));
    }
    if (!this.#ended) await this.endWithoutMark();
    // Input that comes from now on has no reader.
    this.closeStreams();
  }

  async *#pieces(): Stream<N> {
    const first = await this.#open;
    if (first !== undefined) yield first;
    yield* this.#streams.pieces;
  }

  async #resize(): Promise<void> {
    const { resize, log } = this.#streams;
    if (resize === undefined) return;
    let known: TerminalSize | undefined;
    await this.#open;
    for (let tries = 0; known !== this.#size && !this.#disposed && tries < maxTries; ) {
      const size = this.#size;
      try {
        using limited = within(resizeMs);
        await resize(size, limited);
        [known, tries] = [size, 0];
      } catch (error) {
        // A guest that is busy has to be asked again: nothing else would correct it.
        tries += 1;
        log.debug('terminal not resized', { tries, error: messageOf(error) });
        using pausing = within(resizeAgainMs);
        await aborted(pausing);
      }
    }
    this.#resizing = undefined;
  }
}

/** The report that a command has begun; gives another piece that came in its place. Never rejects. */
async function reportOf<N>(pieces: Stream<N>): Promise<Piece<N> | undefined> {
  const { value } = await pieces.next().catch(() => ({ value: undefined }));
  const isReport = value !== undefined && 'mark' in value && value.mark.kind === 'begun';
  return isReport ? undefined : (value ?? undefined);
}

/** Returns when the bytes are on their way and more may be written. What is no longer read is dropped. */
async function writeTo(input: Writable, data: Uint8Array, waiting: Waiting): Promise<void> {
  if (data.length === 0 || input.destroyed || !input.writable) return;
  if (input.write(data)) return;
  const written = new AbortController();
  const over = { signal: AbortSignal.any([waiting.signal, written.signal]) };
  try {
    await Promise.race(['drain', 'close'].map((event) => once(input, event, over)));
  } finally {
    written.abort();
  }
}

/** Whether a program can end so. Agents, which guests may replace, report any numbers. */
export function isExit({ exitCode, signal }: CommandExit): boolean {
  return exitCode >= 0 && exitCode <= maxCode && signal >= 0 && signal <= maxSignal;
}

/** A shell reports a signal as 128 and its number. */
export function exitOf(code: number, signal = 0): CommandExit {
  const number =
    signal === 0 && code > noSignal && code <= noSignal + maxSignal ? code - noSignal : signal;
  return { exitCode: number > 0 ? noSignal + number : code, signal: number };
}
