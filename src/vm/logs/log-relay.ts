import { closeSync, constants, fstatSync, readSync, watch, writeSync } from 'node:fs';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { closeFd, errnoOf, type Logger, openPath, punchHole, seekData } from '#host';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';
import { lastLine } from './log-tail.ts';

/** Maximum of console output kept while no plugin runs; beyond it the newest output is lost. */
export const consoleHistoryBytes = 1024 * 1024;

const pageBytes = 4096;
const chunkBytes = 64 * 1024;
/** Pause before reading, so that a burst of single bytes is read at once. */
const burstMs = 10;
/** Maximum pause during a burst: what is written in this time fits on the VM's tmpfs. A guest that is quiet for longer has ended it. */
const maxBurstMs = 160;
const pollMs = 250;
const fullPipeMs = 20;
/** At the end, for a reader that takes nothing. Counted, not timed: on a busy host each try takes longer. */
const maxFullTries = 100;

/** Of all relays: what is read has gone to the pipe before the next read. */
const chunk = Buffer.allocUnsafeSlow(chunkBytes);

export interface RelayOptions {
  /** A file on the VM's tmpfs that QEMU appends to. */
  readonly history: string;
  /** File that keeps the number of bytes already forwarded, for the next plugin process. */
  readonly mark: string;
  /** The FIFO to write to, owned by the relay; undefined: output is discarded, so that the history stays bounded. */
  readonly sink: number | undefined;
  /** Of what was forwarded, the last bytes that stay in the history; 0 when left out. */
  readonly keptBytes?: number;
  /** Whether an operator looks at it now: then no pause becomes longer. */
  readonly hurry?: () => boolean;
  readonly log: Logger;
  /** Called with the current length of the history, holes included. */
  readonly onGrowth?: (bytes: number) => void;
  /** Called with what was forwarded, and before it with the line that was left unfinished by an earlier process. */
  readonly onOutput?: (bytes: Uint8Array) => void;
}

/**
 * Forwards what QEMU appends to a history file to a log FIFO, in order and each byte once. What was forwarded is
 * punched out of the file, so the tmpfs holds only what is not yet forwarded; without a reader, or without a plugin,
 * it fills up and QEMU drops further output. The guest is never blocked.
 */
export class LogRelay implements AsyncDisposable {
  readonly #fd: number;
  readonly #markFd: number;
  readonly #options: RelayOptions;
  readonly #ended = new AbortController();
  readonly #running: Promise<void>;
  #offset: number;
  #finishing = false;
  #isOpen = true;
  #sinkOpen: boolean;
  #burstMs = burstMs;
  #readMs = Number.NEGATIVE_INFINITY;

  private constructor(fd: number, markFd: number, offset: number, options: RelayOptions) {
    this.#fd = fd;
    this.#markFd = markFd;
    this.#offset = offset;
    this.#options = options;
    this.#sinkOpen = options.sink !== undefined;
    options.onOutput?.(lastLine(fd, wholePages(offset), offset));
    this.#running = this.#run();
  }

  /** Starts forwarding. Throws HostError when the history can't be opened. */
  static open(options: RelayOptions): LogRelay {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
    using opened = new DisposableStack();
    const fd = opened.adopt(openPath(options.history, flags, 0o600), closeFd);
    const markFd = opened.adopt(openPath(options.mark, flags, 0o600), closeFd);
    const offset = startOffset(fd, markFd);
    opened.move();
    return new LogRelay(fd, markFd, offset, options);
  }

  /** For after QEMU's end: forwards what is left, once the signal aborts or the reader takes nothing only what the pipe has room for. */
  async finish({ signal }: Waiting): Promise<void> {
    this.#finishing = true;
    const abort = (): void => this.#abort();
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    this.#wake();
    await this.#running;
    signal.removeEventListener('abort', abort);
  }

  /** How much of the history was forwarded, from its beginning. */
  get forwarded(): number {
    return this.#offset;
  }

  /** Forwards what is there without a pause. For a relay without a sink, which nothing stops. */
  flush(): void {
    let length = this.#isOpen ? chunkBytes : 0;
    while (length === chunkBytes) {
      length = readSync(this.#fd, chunk, 0, chunkBytes, this.#offset);
      if (length > 0) this.#advance(chunk.subarray(0, length));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort();
    await this.#running;
  }

  #abort(): void {
    this.#ended.abort();
    this.#wake();
  }

  #wake: () => void = () => {};

  async #run(): Promise<void> {
    const { history, log } = this.#options;
    const { signal } = this.#ended;
    try {
      while (!signal.aborted || this.#finishing) {
        await this.#changed();
        await this.#burst();
        // What is written from now on is found by the next turn, if there is one.
        const last = this.#finishing;
        await this.#drain();
        if (last) return;
      }
    } catch (error) {
      log.warn('log relay ended early', { history, error: messageOf(error) });
    } finally {
      this.#isOpen = false;
      closeSync(this.#fd);
      closeSync(this.#markFd);
      if (this.#options.sink !== undefined) closeFd(this.#options.sink);
    }
  }

  /**
   * Returns when the file has, or may have, more than was forwarded. The inotify watch exists only during this call: a guest
   * that writes continuously causes thousands of notifications a second, each of which costs more than the read.
   */
  async #changed(): Promise<void> {
    const woken = this.#woken();
    const watcher = watchFile(this.#options.history, () => this.#wake());
    try {
      // What was written before the watch existed.
      const { size } = fstatSync(this.#fd);
      if (size > this.#offset || this.#finishing) return;
      await (watcher === undefined ? this.#woken(pollMs) : woken);
    } finally {
      watcher?.close();
    }
  }

  /** A pause that becomes longer for as long as the guest goes on writing. A line in a while costs one, and one read. */
  async #burst(): Promise<void> {
    if (this.#finishing || this.#ended.signal.aborted) return;
    const isLong = performance.now() - this.#readMs >= maxBurstMs;
    const goesOn = !isLong && this.#options.hurry?.() !== true;
    this.#burstMs = goesOn ? Math.min(this.#burstMs * 2, maxBurstMs) : burstMs;
    await this.#woken(this.#burstMs);
  }

  /** Settles when it is woken, or the time is over. */
  #woken(ms?: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Forwards what is there. */
  async #drain(): Promise<void> {
    let fullTries = 0;
    while (!this.#ended.signal.aborted || this.#finishing) {
      const length = readSync(this.#fd, chunk, 0, chunkBytes, this.#offset);
      const written = length === 0 ? 0 : this.#write(chunk.subarray(0, length));
      if (written > 0) this.#advance(chunk.subarray(0, written));
      this.#readMs = performance.now();
      // Everything that was there; what the guest has written since is read with the next drain.
      if (written === length && length < chunkBytes) return;
      fullTries = written > 0 ? 0 : fullTries + 1;
      const isOver = this.#ended.signal.aborted || fullTries >= maxFullTries;
      if (this.#finishing && isOver && written < length) return;
      await (written < length ? sleep(fullPipeMs) : immediate());
    }
  }

  /**
   * Writes to the pipe and returns the number of bytes written: fewer than all when the pipe is full. The pipe never
   * blocks, so a write takes no longer than copying; the mark is written right after it, so that a process killed in
   * between repeats at most one chunk.
   */
  #write(bytes: Uint8Array): number {
    const { sink, log } = this.#options;
    if (sink === undefined || !this.#sinkOpen) return bytes.length;
    try {
      return writeSync(sink, bytes);
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN') return 0;
      log.warn('log pipe broke; output is no longer forwarded', { error: messageOf(error) });
      this.#sinkOpen = false;
      return bytes.length;
    }
  }

  #advance(bytes: Uint8Array): void {
    const kept = this.#options.keptBytes ?? 0;
    const before = wholePages(this.#offset - kept);
    this.#offset += bytes.length;
    this.#options.onGrowth?.(this.#offset);
    const mark = Buffer.alloc(8);
    mark.writeBigUInt64LE(BigInt(this.#offset));
    writeSync(this.#markFd, mark, 0, mark.length, 0);
    const freed = wholePages(this.#offset - kept);
    if (freed > before) punchHole(this.#fd, before, freed - before);
    this.#options.onOutput?.(bytes);
  }
}

function startOffset(fd: number, markFd: number): number {
  const mark = Buffer.alloc(8);
  const known = readSync(markFd, mark, 0, 8, 0) === 8 ? Number(mark.readBigUInt64LE()) : 0;
  // The first page is written now, while there is space: a full tmpfs must not keep the mark from being updated.
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
    return undefined; // no inotify watches are left: polled instead
  }
}

function wholePages(offset: number): number {
  return Math.max(0, Math.floor(offset / pageBytes) * pageBytes);
}
