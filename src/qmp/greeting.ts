import type { Waiting } from '#spec';
import { QmpError } from './error.ts';
import { timedOut } from './pending-calls.ts';

/** The message that QEMU begins a session with. */
export class Greeting {
  readonly #arrival = Promise.withResolvers<void>();
  #arrived = false;

  constructor() {
    this.#arrival.promise.catch(() => {});
  }

  /** Throws QmpError `protocol` the second time. */
  arrive(): void {
    if (this.#arrived) throw new QmpError('protocol', 'QEMU greeted twice');
    this.#arrived = true;
    this.#arrival.resolve();
  }

  /** The session has ended: who waits gets this error. */
  fail(error: QmpError): void {
    this.#arrival.reject(error);
  }

  async wait(waiting: Waiting): Promise<void> {
    const abort = (): void =>
      this.#arrival.reject(timedOut('waiting for the QMP greeting', waiting));
    waiting.signal.addEventListener('abort', abort, { once: true });
    if (waiting.signal.aborted) abort();
    try {
      await this.#arrival.promise;
    } finally {
      waiting.signal.removeEventListener('abort', abort);
    }
  }
}
