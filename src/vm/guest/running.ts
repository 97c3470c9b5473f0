import { abortable, type Logger, slept, within } from '#host';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';
import type { CommandFiles } from '../store/command-files.ts';

const endMs = 10_000;
const againMs = 3000;
/** An agent that has hung leaves one for each check, for months, and the VM's tmpfs has room for about eighty files. */
const maxLeft = 32;

interface Resettable extends Disposable {
  reset(): void;
}

/** The commands of one way that run in the guest, and the ends of those that have been disposed of. */
export class Running<C extends Resettable> {
  readonly #commands = new Set<C>();
  readonly #ends = new Set<Promise<void>>();

  add(command: C): void {
    this.#commands.add(command);
  }

  /** The command was disposed of; `ended` settles, without an error, when what can be done about it in the guest is done. */
  leave(command: C, ended: Promise<void>): void {
    this.#commands.delete(command);
    this.#ends.add(ended);
    void ended.finally(() => this.#ends.delete(ended));
  }

  /** The guest boots again: they are lost. */
  reset(): void {
    for (const command of this.#commands) command.reset();
  }

  /** Disposes of all; returns when nothing of them is left in the guest. */
  async end(waiting: Waiting): Promise<void> {
    for (const command of this.#commands) command[Symbol.dispose]();
    await abortable(Promise.all(this.#ends), waiting);
  }
}

export interface LeftOptions {
  /** Ends what runs of one in the guest. */
  readonly end: (session: string, waiting: Waiting) => Promise<void>;
  readonly files: CommandFiles;
  readonly log: Logger;
}

/**
 * Commands that are over for this host, and may still run in the guest: it could not be reached when they were to be ended,
 * because it was paused, or too busy. It is tried again until it succeeds, by the next plugin process as well; of many, only
 * for the newest.
 */
export class LeftCommands implements Disposable {
  readonly #options: LeftOptions;
  readonly #sessions = new Set<string>();
  readonly #over = new AbortController();
  #trying = false;

  constructor(options: LeftOptions) {
    this.#options = options;
  }

  /** Never rejects. The next plugin process knows of it afterwards. */
  async add(session: string, cause: unknown): Promise<void> {
    const { files, log } = this.#options;
    if (this.#over.signal.aborted) return;
    log.warn('a command is left in the guest for now', { session, error: messageOf(cause) });
    this.#sessions.add(session);
    if (!this.#trying) void this.#keepTrying();
    await files.add(session).catch((error: unknown) => {
      log.warn('a command that is left has no file', { session, error: messageOf(error) });
    });
    const [oldest] = this.#sessions;
    if (oldest === undefined || this.#sessions.size <= maxLeft) return;
    log.warn('a command is left in the guest', { session: oldest });
    this.#sessions.delete(oldest);
    await this.#forget(oldest);
  }

  /** The guest has booted again: nothing of them is left. */
  clear(): void {
    for (const session of this.#sessions) void this.#forget(session);
    this.#sessions.clear();
  }

  [Symbol.dispose](): void {
    this.#over.abort();
  }

  async #keepTrying(): Promise<void> {
    this.#trying = true;
    while (this.#sessions.size > 0 && (await slept(againMs, this.#over))) await this.#tryOnce();
    this.#trying = false;
  }

  /** One after the other: where the guest can't be reached for the first one, the others need not be tried. */
  async #tryOnce(): Promise<void> {
    const { end, log } = this.#options;
    for (const session of this.#sessions) {
      using limited = within(endMs, this.#over);
      try {
        await end(session, limited);
      } catch (error) {
        log.debug('a command is still left in the guest', { session, error: messageOf(error) });
        return;
      }
      log.info('a command that was left in the guest was ended', { session });
      this.#sessions.delete(session);
      await this.#forget(session);
    }
  }

  /** Never rejects: the next plugin process would only find that nothing of it runs. */
  async #forget(session: string): Promise<void> {
    await this.#options.files.remove(session).catch(() => {});
  }
}
