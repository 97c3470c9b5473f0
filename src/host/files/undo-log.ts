import { constants, type FileHandle, open, readFile, truncate } from 'node:fs/promises';
import type { Waiting } from '#spec';
import { errnoOf, hostError } from '../error.ts';
import type { Logger } from '../log.ts';
import { within } from '../waiting.ts';
import { type Content, parseLog } from './undo-entries.ts';

/** Undoes one step; does nothing when it was undone before, or its action never happened. */
export type Undo<Step> = (step: Step, waiting: Waiting) => Promise<void>;

export interface UndoFailure<Step> {
  readonly step: Step;
  readonly error: unknown;
}

export interface UndoLogOptions<Step> {
  /** Decodes a step. Throws for an unknown one. */
  readonly decode: (json: unknown) => Step;
  readonly log: Logger;
}

/** How a step is written down. */
export interface Keeping {
  /** What is done outlives a crash of the host, as a file on another file system does, or an image in a cluster. */
  readonly lasting?: boolean;
}

const disposeMs = 30_000;

/**
 * The steps to undo on this host, each logged before it is performed: lines of JSON, `{"do": step}` and, once undone,
 * `{"done": number of the step}`, which are only appended. Only a complete line counts, so a kill at any moment leaves a
 * readable log. Only what outlives a crash of the whole host is synced to the disk: a killed process loses none of its
 * writes, and the other entries that such a crash loses (the last seconds) name links, rules and processes that ended with it.
 */
export class UndoLog<Step> implements AsyncDisposable {
  readonly #path: string;
  readonly #undo: Undo<Step>;
  readonly #log: Logger;
  readonly #pending: Map<number, Step>;
  #nextNumber: number;
  /** Length of the complete lines. */
  #bytes: number;
  /** Whether an incomplete line follows them, which has to be cut off before the next one. */
  #torn: boolean;
  #held: FileHandle | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #kept = false;

  private constructor(path: string, undo: Undo<Step>, log: Logger, content: Content<Step>) {
    this.#path = path;
    this.#undo = undo;
    this.#log = log;
    this.#pending = content.pending;
    this.#nextNumber = content.nextNumber;
    this.#bytes = content.bytes;
    this.#torn = content.torn;
  }

  /**
   * Opens the log at `path`, making it (mode 0600) when missing. What an earlier process wrote is in `steps`; an
   * incomplete last line does not count. Throws HostError for a file that is not an undo log.
   */
  static async open<Step>(
    path: string,
    undo: Undo<Step>,
    options: UndoLogOptions<Step>,
  ): Promise<UndoLog<Step>> {
    try {
      await using _ = await open(path, constants.O_RDONLY | constants.O_CREAT, 0o600);
    } catch (error) {
      throw hostError(`making the undo log ${path}`, error);
    }
    return await UndoLog.reopen(path, undo, options);
  }

  /**
   * Makes the log at `path` (mode 0600) and keeps its file open until `held` is disposed of, for many steps in a short
   * time. Throws HostError, also where a file has that name.
   */
  static async make<Step>(
    path: string,
    undo: Undo<Step>,
    { decode, log }: UndoLogOptions<Step>,
  ): Promise<{ readonly log: UndoLog<Step>; readonly held: Disposable }> {
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_EXCL;
    const file = await open(path, flags, 0o600).catch((error: unknown) => {
      throw hostError(`making the undo log ${path}`, error);
    });
    const made = new UndoLog(path, undo, log, parseLog(Buffer.alloc(0), decode));
    return { log: made, held: made.#holding(file) };
  }

  /** The same for undoing what an earlier process did: writes nothing before a step is undone. Missing is empty. */
  static async reopen<Step>(
    path: string,
    undo: Undo<Step>,
    { decode, log }: UndoLogOptions<Step>,
  ): Promise<UndoLog<Step>> {
    return new UndoLog(path, undo, log, await readLog(path, decode));
  }

  #holding(file: FileHandle): Disposable {
    this.#held = file;
    const release = async (): Promise<void> => {
      this.#held = undefined;
      await this.#unlessRefused(() => file.close());
    };
    return { [Symbol.dispose]: () => void this.#inTurn(release) };
  }

  /** The steps not undone yet, oldest first. */
  get steps(): readonly Step[] {
    return [...this.#pending.values()];
  }

  /** Writes the step to disk, then runs the action. The step of a failed action stays: part of it may have happened. */
  async perform<T>(step: Step, action: () => T | Promise<T>, keeping?: Keeping): Promise<T> {
    await this.note(step, keeping);
    return await action();
  }

  /** Writes a step to disk whose action happens elsewhere. Throws HostError. */
  async note(step: Step, { lasting = false }: Keeping = {}): Promise<void> {
    await this.#inTurn(async () => {
      await this.#append({ do: step }, lasting);
      this.#pending.set(this.#nextNumber, step);
      this.#nextNumber += 1;
    });
  }

  /** From now on the end of the scope undoes nothing; the steps have another owner. */
  keep(): this {
    this.#kept = true;
    return this;
  }

  /**
   * Undoes everything, newest first. A step that fails is reported, stays in the log and does not stop the others. Once
   * the signal aborts, the rest stays as well. On a full or read-only disk the log keeps naming steps that were
   * undone, which another process then undoes again. Never throws.
   */
  async rollback(waiting: Waiting): Promise<{ readonly failed: readonly UndoFailure<Step>[] }> {
    return await this.#inTurn(async () => {
      const failed: UndoFailure<Step>[] = [];
      for (const [number, step] of [...this.#pending].reverse()) {
        try {
          waiting.signal.throwIfAborted();
          await this.#undo(step, waiting);
        } catch (error) {
          this.#log.warn('undoing a step failed', { path: this.#path, step, error });
          failed.push({ step, error });
          continue;
        }
        this.#pending.delete(number);
        await this.#unlessRefused(() => this.#append({ done: number }));
      }
      if (failed.length === 0) await this.#unlessRefused(() => this.#empty());
      return { failed };
    });
  }

  /** Rolls back unless kept. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#kept) return;
    using limited = within(disposeMs);
    await this.rollback(limited);
  }

  async #unlessRefused(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.#log.debug('the undo log still names steps that were undone', { error });
    }
  }

  /** One writer at a time, in the order of the calls. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  async #append(
    entry: { readonly do: Step } | { readonly done: number },
    lasting = false,
  ): Promise<void> {
    // Not created again: undoing a step may have removed the directory and the log with it, which completes it as well.
    const line = Buffer.from(`${JSON.stringify(entry)}\n`);
    try {
      await this.#withFile(async (file) => {
        if (this.#torn) await file.truncate(this.#bytes);
        // A full disk may accept half a line.
        this.#torn = true;
        await file.writeFile(line);
        // With the entries before it, and with the name of a file that is new (ext4, XFS, Btrfs).
        if (lasting) await file.sync();
      });
      this.#torn = false;
      this.#bytes += line.length;
    } catch (error) {
      if ('done' in entry && errnoOf(error) === 'ENOENT') return;
      throw hostError(`writing to the undo log ${this.#path}`, error);
    }
  }

  async #withFile(write: (file: FileHandle) => Promise<void>): Promise<void> {
    if (this.#held !== undefined) return await write(this.#held);
    await using file = await this.#open();
    await write(file);
  }

  async #open(): Promise<FileHandle> {
    return await open(this.#path, constants.O_WRONLY | constants.O_APPEND);
  }

  async #empty(): Promise<void> {
    await truncate(this.#path, 0).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw hostError(`emptying ${this.#path}`, error);
    });
    this.#bytes = 0;
    this.#torn = false;
    this.#nextNumber = 0;
  }
}

/** The pending steps of a log, without opening it for changes. Missing is empty. Throws HostError. */
export async function readUndoLog<Step>(
  path: string,
  decode: (json: unknown) => Step,
): Promise<readonly Step[]> {
  return [...(await readLog(path, decode)).pending.values()];
}

async function readLog<Step>(
  path: string,
  decode: (json: unknown) => Step,
): Promise<Content<Step>> {
  try {
    return parseLog(await readFile(path), decode);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return parseLog(Buffer.alloc(0), decode);
    throw hostError(`reading the undo log ${path}`, error);
  }
}
