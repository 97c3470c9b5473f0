import { abortable } from '#host';
import { GuestAgent } from '#qmp';
import type { Waiting } from '#spec';

/**
 * The connection to one VM's guest agent. QEMU accepts one at a time, and the agent serves one command after the other:
 * what wants something of it waits here for a turn, and a stop goes before all others.
 */
export class AgentLine implements AsyncDisposable {
  readonly #path: string;
  readonly #waiting: (() => void)[] = [];
  #session: GuestAgent | undefined;
  #taken = false;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Does the work when it is its turn. The signal limits the wait for the turn and for a connection; the work has limits
   * of its own, short ones. Throws QmpError, or the signal's reason.
   */
  async use<T>(
    work: (agent: GuestAgent) => Promise<T>,
    { urgent = false }: { readonly urgent?: boolean },
    waiting: Waiting,
  ): Promise<T> {
    await this.#turn(urgent, waiting);
    try {
      return await work(await this.#connected(waiting));
    } finally {
      this.#pass();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session?.[Symbol.asyncDispose]();
  }

  async #connected(waiting: Waiting): Promise<GuestAgent> {
    if (this.#session?.open !== true) {
      this.#session = await GuestAgent.connect(this.#path, waiting);
    }
    return this.#session;
  }

  async #turn(urgent: boolean, waiting: Waiting): Promise<void> {
    waiting.signal.throwIfAborted();
    if (!this.#taken) {
      this.#taken = true;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    if (urgent) this.#waiting.unshift(resolve);
    else this.#waiting.push(resolve);
    try {
      await abortable(promise, waiting);
    } catch (error) {
      const place = this.#waiting.indexOf(resolve);
      // Its turn came in the same moment.
      if (place < 0) this.#pass();
      else this.#waiting.splice(place, 1);
      throw error;
    }
  }

  #pass(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#taken = false;
    else next();
  }
}
