import { writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { errnoOf, HostError, hostError } from '../error.ts';
import { must } from '../native/libc.ts';
import { loadNodePty } from '../native/native.ts';
import { slept } from '../waiting.ts';
import { closeAside, closeFd } from './descriptor.ts';

interface Size {
  readonly rows: number;
  readonly columns: number;
}

/** The part of node-pty that is used. */
interface NodePty {
  open(columns: number, rows: number): { readonly master: number; readonly slave: number };
  resize(
    fd: number,
    columns: number,
    rows: number,
    widthPixels: number,
    heightPixels: number,
  ): void;
}

// The same on x86-64 and arm64.
const getAttributes = 0x5401; // TCGETS
const setAttributes = 0x5402; // TCSETS
const attributesBytes = 36; // struct termios: flags of input, output, control and local, then characters
const [inputFlags, outputFlags, localFlags] = [0, 4, 12];

const setDescriptorFlags = 2; // F_SETFD
const flagCloseOnExec = 1;

const queuedBytes = 16 * 1024;
const firstPauseMs = 1;
const maxPauseMs = 100;

/**
 * The keyboard and the size of a terminal for a program. What the program does not read waits in the kernel, some KiB, then
 * in here like in any stream. Node's own stream for a terminal would hold the whole process until the program reads on.
 */
export class PseudoTerminal extends Writable {
  readonly #pty: NodePty;
  readonly #fd: number;
  readonly #closing = new AbortController();

  private constructor(pty: NodePty, fd: number) {
    super({ highWaterMark: queuedBytes });
    this.#pty = pty;
    this.#fd = fd;
    // Input without a reader is dropped.
    this.on('error', () => {});
  }

  /** `theirs` is the terminal, for a child: it passes each byte as it is, and shows none. Throws HostError. */
  static open({ rows, columns }: Size): {
    readonly ours: PseudoTerminal;
    readonly theirs: number;
  } {
    const pty = asNodePty(loadNodePty());
    const { master, slave } = opened(() => pty.open(columns, rows));
    try {
      // node-pty leaves that to its own start of programs.
      for (const fd of [master, slave]) closeOnExec(fd);
      makeRaw(slave);
      return { ours: new PseudoTerminal(pty, master), theirs: slave };
    } catch (error) {
      for (const fd of [master, slave]) closeFd(fd);
      throw error;
    }
  }

  /** The program asks for it: it gets SIGWINCH only where this terminal is the one of its session. */
  resize({ rows, columns }: Size): void {
    if (!this.destroyed) this.#pty.resize(this.#fd, columns, rows, 0, 0);
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    this.#writeAll(bytes).then(() => done(), done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#closing.abort();
    void closeAside(this.#fd).then(() => done(error));
  }

  async #writeAll(bytes: Buffer): Promise<void> {
    let pauseMs = firstPauseMs;
    for (let at = 0; at < bytes.length; ) {
      const count = writeSome(this.#fd, bytes.subarray(at));
      at += count;
      // Node has no way to wait until a terminal takes more.
      pauseMs = count > 0 ? firstPauseMs : Math.min(pauseMs * 2, maxPauseMs);
      if (at < bytes.length && !(await slept(pauseMs, this.#closing))) return;
    }
  }
}

/** Returns how many bytes the terminal has taken, which does not wait. */
function writeSome(fd: number, bytes: Buffer): number {
  try {
    return writeSync(fd, bytes);
  } catch (error) {
    if (errnoOf(error) === 'EAGAIN') return 0;
    throw error;
  }
}

function opened<T>(open: () => T): T {
  try {
    return open();
  } catch (error) {
    throw hostError('making a pseudo-terminal', error);
  }
}

function closeOnExec(fd: number): void {
  must('setting the flags of a terminal', 'fcntl', fd, setDescriptorFlags, flagCloseOnExec);
}

function makeRaw(fd: number): void {
  const attributes = Buffer.alloc(attributesBytes);
  must('reading the attributes of a terminal', 'ioctlBytes', fd, getAttributes, attributes);
  for (const place of [inputFlags, outputFlags, localFlags]) attributes.writeUInt32LE(0, place);
  must('setting the attributes of a terminal', 'ioctlBytes', fd, setAttributes, attributes);
}

function asNodePty(exports: unknown): NodePty {
  if (typeof exports !== 'object' || exports === null || !('open' in exports)) {
    throw new HostError('the module loaded as node-pty has no open()');
  }
  return exports as NodePty;
}
