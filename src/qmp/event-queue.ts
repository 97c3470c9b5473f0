import { QmpError } from './error.ts';
import type { QmpEvent } from './message.ts';

interface Limits {
  readonly events: number;
  readonly bytes: number;
}

const defaultLimits: Limits = { events: 1024, bytes: 2 * 1024 * 1024 };

/**
 * The events that one listener has not read yet. Iterating gives them in order, then ends, or throws when the source
 * broke.
 *
 * A listener that leaves more unread than the limits is cut off: it still gets everything up to there, then an error.
 * Dropping old or new events instead could lose a SHUTDOWN unnoticed; a cut-off listener reads the journal, and other
 * listeners and calls are not affected.
 */
export class EventQueue implements AsyncIterableIterator<QmpEvent> {
  readonly #limits: Limits;
  readonly #onEnd: (queue: EventQueue) => void;
  #waiting: { event: QmpEvent; bytes: number }[] = [];
  #bytes = 0;
  #readers: PromiseWithResolvers<IteratorResult<QmpEvent, undefined>>[] = [];
  #end: { readonly error: Error | undefined } | undefined;

  constructor(onEnd: (queue: EventQueue) => void, limits: Limits = defaultLimits) {
    this.#onEnd = onEnd;
    this.#limits = limits;
  }

  /** `bytes` is the size of the event's text, for the memory limit. */
  push(event: QmpEvent, bytes: number): void {
    if (this.#end !== undefined) return;
    const reader = this.#readers.shift();
    if (reader !== undefined) {
      reader.resolve({ done: false, value: event });
      return;
    }
    this.#waiting.push({ event, bytes });
    this.#bytes += bytes;
    if (this.#waiting.length > this.#limits.events || this.#bytes > this.#limits.bytes) {
      const count = this.#waiting.length;
      this.end(new QmpError('protocol', `cut off from QMP events: ${count} were left unread`));
    }
  }

  /** No more events; an error is thrown by the iteration once the events held have been read. The first end counts. */
  end(error?: Error): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    const readers = this.#readers;
    this.#readers = [];
    for (const reader of readers) this.#settle(reader);
    this.#onEnd(this);
  }

  next(): Promise<IteratorResult<QmpEvent, undefined>> {
    const held = this.#waiting.shift();
    if (held !== undefined) {
      this.#bytes -= held.bytes;
      return Promise.resolve({ done: false, value: held.event });
    }
    const reader = Promise.withResolvers<IteratorResult<QmpEvent, undefined>>();
    if (this.#end === undefined) this.#readers.push(reader);
    else this.#settle(reader);
    return reader.promise;
  }

  /** The listener stops reading (`break` out of `for await`). */
  return(): Promise<IteratorResult<QmpEvent, undefined>> {
    this.#waiting = [];
    this.#bytes = 0;
    this.end();
    this.#end = { error: undefined };
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  // The error is thrown once; afterwards the iteration is simply over, as with a generator.
  #settle(reader: PromiseWithResolvers<IteratorResult<QmpEvent, undefined>>): void {
    const error = this.#end?.error;
    this.#end = { error: undefined };
    if (error === undefined) reader.resolve({ done: true, value: undefined });
    else reader.reject(error);
  }
}
