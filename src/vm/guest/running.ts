import { abortable } from '#host';
import type { Waiting } from '#spec';

/** The commands of one way that run in the guest, and the ends of those that have been disposed of. */
export class Running {
  readonly #commands = new Set<Disposable>();
  readonly #ends = new Set<Promise<void>>();

  add(command: Disposable): void {
    this.#commands.add(command);
  }

  /** The command was disposed of; `ended` settles, without an error, when what can be done about it in the guest is done. */
  leave(command: Disposable, ended: Promise<void>): void {
    this.#commands.delete(command);
    this.#ends.add(ended);
    void ended.finally(() => this.#ends.delete(ended));
  }

  /** Disposes of all; returns when nothing of them is left in the guest. */
  async end(waiting: Waiting): Promise<void> {
    for (const command of this.#commands) command[Symbol.dispose]();
    await abortable(Promise.all(this.#ends), waiting);
  }
}
