import type { Waiting } from '#spec';
import { QmpError } from './error.ts';

interface Call {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** The commands of a session that wait for their answer, by the id under which they were sent. */
export class PendingCalls {
  readonly #calls = new Map<unknown, Call>();
  #lastId = 0;

  get size(): number {
    return this.#calls.size;
  }

  /** Opens a call. It is settled by `resolve`, `refuse` or `rejectAll`, or rejected when the signal aborts. */
  open(
    command: string,
    waiting: Waiting,
  ): { readonly id: number; readonly answer: Promise<unknown> } {
    const { promise: answer, resolve, reject } = Promise.withResolvers<unknown>();
    this.#lastId += 1;
    const id = this.#lastId;
    const settled = (): void => {
      this.#calls.delete(id);
      waiting.signal.removeEventListener('abort', abort);
    };
    const call: Call = {
      command,
      resolve: (value) => {
        settled();
        resolve(value);
      },
      reject: (error) => {
        settled();
        reject(error);
      },
    };
    const abort = (): void => call.reject(timedOut(command, waiting));
    this.#calls.set(id, call);
    waiting.signal.addEventListener('abort', abort, { once: true });
    return { id, answer };
  }

  /** Ignores an unknown id: the call's signal aborted before the answer came. */
  resolve(id: unknown, value: unknown): void {
    this.#calls.get(id)?.resolve(value);
  }

  /** Ignores an unknown id as well. */
  refuse(id: unknown, description: string): void {
    const call = this.#calls.get(id);
    call?.reject(new QmpError('command', `QEMU refused ${call.command}: ${description}`));
  }

  rejectAll(cause: QmpError): void {
    for (const call of [...this.#calls.values()]) {
      call.reject(new QmpError(cause.code, `${call.command}: ${cause.message}`, { cause }));
    }
  }
}

/** The error of a caller whose signal has aborted, by its deadline or otherwise. */
export function timedOut(what: string, { signal }: Waiting): QmpError {
  const late = signal.reason instanceof Error && signal.reason.name === 'TimeoutError';
  const text = `${what}: ${late ? 'no answer before the deadline' : 'the wait was cancelled'}`;
  return new QmpError('timeout', text, { cause: signal.reason });
}
