import { closeSync, constants, fstatSync, readSync, watch, writeSync } from 'node:fs';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { closeFd, errnoOf, type Logger, openPath, punchHole, seekData } from '#host';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';

/** Console history that may wait for its reader while the plugin is away; beyond it the newest output is lost. */
export const consoleHistoryBytes = 1024 * 1024;

const pageBytes = 4096;
const chunkBytes = 64 * 1024;
/** A burst of single bytes is read in one go. */
const burstMs = 10;
/** While it goes on: what comes in this time has room on the VM's tmpfs. */
const longestBurstMs = 160;
const quietMs = 80;
const pollMs = 250;
const fullPipeMs = 20;

export interface RelayOptions {
  /** A file on the VM's tmpfs that QEMU appends to. */
  readonly history: string;
  /** Where the number of bytes already passed on is kept for the next plugin process. */
  readonly mark: string;
  /** The FIFO to write to, owned by the relay from now on; undefined: the history is only kept bounded. */
  readonly sink: number | undefined;
  readonly log: Logger;
  /** Called with the length that the history has come to, holes included. */
  readonly onGrowth?: (bytes: number) => void;
}

/**
 * Passes on what QEMU appends to a history file, in order and each byte once, into a log FIFO. What was passed on is
 * punched out of the file, so the tmpfs holds just what is still to come; with no reader, or no plugin, it fills up
 * to its size and QEMU goes on without it. The guest is never held up.
 */
export class LogRelay implements AsyncDisposable {
  readonly #fd: number;
  readonly #markFd: number;
  readonly #options: RelayOptions;
  readonly #ended = new AbortController();
  readonly #running: Promise<void>;
  #offset: number;
  #finishing = false;
  #sinkOpen: boolean;

  private constructor(fd: number, markFd: number, offset: number, options: RelayOptions) {
    this.#fd = fd;
    this.#markFd = markFd;
    this.#offset = offset;
    this.#options = options;
    this.#sinkOpen = options.sink !== undefined;
    this.#running = this.#run();
  }

  /** Starts passing on. Throws HostError when the history can't be opened. */
  static open(options: RelayOptions): LogRelay {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
    const fd = openPath(options.history, flags, 0o600);
    try {
      const markFd = openPath(options.mark, flags, 0o600);
      return new LogRelay(fd, markFd, startOffset(fd, markFd), options);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** Passes on what is left, for as long as the signal allows, and closes. For when QEMU is gone. */
  async finish({ signal }: Waiting): Promise<void> {
    this.#finishing = true;
    const giveUp = (): void => {
      this.#ended.abort();
      this.#wake();
    };
    if (signal.aborted) giveUp();
    signal.addEventListener('abort', giveUp, { once: true });
    this.#wake();
    await this.#running;
    signal.removeEventListener('abort', giveUp);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    this.#wake();
    await this.#running;
  }

  #wake: () => void = () => {};

  async #run(): Promise<void> {
    const { history, log } = this.#options;
    const { signal } = this.#ended;
    try {
      while (!signal.aborted) {
        await this.#changed();
        await this.#drainBurst();
        if (!this.#finishing) continue;
        await this.#drain();
        return;
      }
    } catch (error) {
      log.warn('log relay ended early', { history, error: messageOf(error) });
    } finally {
      closeSync(this.#fd);
      closeSync(this.#markFd);
      if (this.#options.sink !== undefined) closeFd(this.#options.sink);
    }
  }

  /** Returns when the file has, or may have, more than was passed on. The watch stands for just that long. */
  async #changed(): Promise<void> {
    const woken = this.#woken();
    const watcher = watchFile(this.#options.history, () => this.#wake());
    try {
      // What came before there was a watch.
      const { size } = fstatSync(this.#fd);
      if (size > this.#offset || this.#finishing) return;
      await (watcher === undefined ? Promise.race([woken, sleep(pollMs)]) : woken);
    } finally {
      watcher?.close();
    }
  }

  /**
   * Passes on until nothing more comes, looking ever less often: a guest that writes without end causes thousands of
   * notices a second where there is a watch, each of which costs more than what it tells of.
   */
  async #drainBurst(): Promise<void> {
    for (let ms = burstMs; ; ms = Math.min(ms * 2, longestBurstMs)) {
      const woken = this.#woken();
      if (this.#finishing || this.#ended.signal.aborted) return;
      await Promise.race([woken, sleep(ms)]);
      // A writer that waits for a processor is not one that has nothing more.
      if (!(await this.#drain()) && ms >= quietMs) return;
    }
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Whether there was anything. */
  async #drain(): Promise<boolean> {
    const chunk = Buffer.allocUnsafe(chunkBytes);
    for (let any = false; !this.#ended.signal.aborted; any = true) {
      const length = readSync(this.#fd, chunk, 0, chunkBytes, this.#offset);
      if (length === 0) return any;
      const passed = this.#pass(chunk.subarray(0, length));
      if (passed > 0) this.#advance(passed);
      // All there was; what the guest has written meanwhile can wait for the next look.
      if (passed === length && length < chunkBytes) return true;
      await (passed < length ? sleep(fullPipeMs) : immediate());
    }
    return false;
  }

  /**
   * Bytes that went through: fewer than all when the pipe is full. The pipe never blocks, so writing takes no longer
   * than copying; nothing comes between it and the mark, so that a process killed here repeats next to nothing.
   */
  #pass(bytes: Uint8Array): number {
    const { sink, log } = this.#options;
    if (sink === undefined || !this.#sinkOpen) return bytes.length;
    try {
      return writeSync(sink, bytes);
    } catch (error) {
      if (isFull(error)) return 0;
      log.warn('log pipe broke; output is no longer passed on', { error: messageOf(error) });
      this.#sinkOpen = false;
      return bytes.length;
    }
  }

  #advance(length: number): void {
    const before = wholePages(this.#offset);
    this.#offset += length;
    this.#options.onGrowth?.(this.#offset);
    const mark = Buffer.alloc(8);
    mark.writeBigUInt64LE(BigInt(this.#offset));
    writeSync(this.#markFd, mark, 0, mark.length, 0);
    const freed = wholePages(this.#offset);
    if (freed > before) punchHole(this.#fd, before, freed - before);
  }
}

/** A relay for one log, or none where its history can't be opened: a VM without its log is better than no VM. */
export function openRelay({
  history,
  sink,
  log,
  onGrowth,
}: {
  readonly history: string;
  readonly sink: { readonly fd: number } | undefined;
  readonly log: Logger;
  readonly onGrowth: (bytes: number) => void;
}): readonly LogRelay[] {
  try {
    return [LogRelay.open({ history, mark: `${history}.mark`, sink: sink?.fd, log, onGrowth })];
  } catch (error) {
    if (sink !== undefined) closeFd(sink.fd);
    log.warn('log is not passed on', { history, error: messageOf(error) });
    return [];
  }
}

function startOffset(fd: number, markFd: number): number {
  const mark = Buffer.alloc(8);
  const known = readSync(markFd, mark, 0, 8, 0) === 8 ? Number(mark.readBigUInt64LE()) : 0;
  // The first page is written now, while there is room: a full tmpfs must not stop the mark from moving.
  if (known === 0) writeSync(markFd, mark, 0, 8, 0);
  const { size } = fstatSync(fd);
  return known <= size ? known : (seekData(fd, 0) ?? size);
}

function watchFile(path: string, changed: () => void): ReturnType<typeof watch> | undefined {
  try {
    const watcher = watch(path, { persistent: false }, changed);
    watcher.on('error', changed);
    return watcher;
  } catch {
    return undefined; // out of inotify watches: polled instead
  }
}

function isFull(error: unknown): boolean {
  return errnoOf(error) === 'EAGAIN';
}

function wholePages(offset: number): number {
  return Math.floor(offset / pageBytes) * pageBytes;
}
