import { type Logger, within } from '#host';
import type { QmpClient } from '#qmp';
import { messageOf } from '../error.ts';

const retryMs = 5000;
const answerMs = 1000;

/**
 * Resumes a guest that QEMU stopped because the host could not write its disk. Usually the host's disk is full, and an
 * operator who frees space has no reason to resume guests. While there is still no space QEMU stops it again.
 */
export class IoRetry implements Disposable {
  readonly #client: () => QmpClient | undefined;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;
  #disposed = false;

  constructor(client: () => QmpClient | undefined, log: Logger) {
    this.#client = client;
    this.#log = log;
  }

  /** To be called whenever the guest is found stopped, whatever the cause. */
  stopped(): void {
    if (this.#disposed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#retry();
    }, retryMs).unref();
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    clearTimeout(this.#timer);
  }

  async #retry(): Promise<void> {
    const client = this.#client();
    if (client === undefined) return this.stopped();
    try {
      using waiting = within(answerMs);
      const { status } = await client.execute('query-status', {}, waiting);
      if (status === 'io-error') await client.execute('cont', {}, waiting);
    } catch (error) {
      this.#log.debug('stopped guest could not be resumed', { error: messageOf(error) });
      this.stopped();
    }
  }
}
