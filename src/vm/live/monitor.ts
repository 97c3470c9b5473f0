import { setTimeout as sleep } from 'node:timers/promises';
import { type Logger, within } from '#host';
import { QmpClient, type QmpEvent } from '#qmp';
import { messageOf } from '../error.ts';

const firstPauseMs = 100;
const longestPauseMs = 5000;
const greetingMs = 5000;

export interface QmpLinkOptions {
  readonly path: string;
  /** Connected already; undefined when nobody answers now. */
  readonly client: QmpClient | undefined;
  readonly isAlive: () => boolean;
  readonly onEvent: (event: QmpEvent) => void;
  /** A connection was made again: events may have been missed. */
  readonly onReconnect: (client: QmpClient) => void;
  readonly log: Logger;
}

/** One QMP connection for as long as QEMU lives: what breaks is connected again, whatever the other side sent. */
export class QmpLink implements AsyncDisposable {
  readonly #options: QmpLinkOptions;
  readonly #over = new AbortController();
  readonly #following: Promise<void>;
  #client: QmpClient | undefined;

  private constructor(options: QmpLinkOptions) {
    this.#options = options;
    this.#client = options.client;
    this.#following = this.#follow();
  }

  static keep(options: QmpLinkOptions): QmpLink {
    return new QmpLink(options);
  }

  /** undefined while there is no connection. */
  get client(): QmpClient | undefined {
    return this.#client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#client?.[Symbol.asyncDispose]();
    await this.#following;
  }

  async #follow(): Promise<void> {
    const { isAlive, log, path } = this.#options;
    const { signal } = this.#over;
    let pauseMs = firstPauseMs;
    while (!signal.aborted) {
      if (this.#client !== undefined) {
        await this.#followConnection(this.#client);
        pauseMs = firstPauseMs;
        this.#client = undefined;
      }
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
      if (signal.aborted || !isAlive()) return;
      pauseMs = Math.min(pauseMs * 2, longestPauseMs);
      log.warn('no QMP connection; connecting again', { path });
      this.#client = await connect(path, signal);
    }
    // Made in the very moment of the end.
    await this.#client?.[Symbol.asyncDispose]();
  }

  async #followConnection(client: QmpClient): Promise<void> {
    // Before anything is asked, so that no event falls between.
    const events = client.events();
    if (client !== this.#options.client) this.#options.onReconnect(client);
    try {
      for await (const event of events) this.#options.onEvent(event);
    } catch (error) {
      this.#options.log.debug('QMP events ended', { reason: messageOf(error) });
    }
    await client[Symbol.asyncDispose]();
  }
}

async function connect(path: string, over: AbortSignal): Promise<QmpClient | undefined> {
  try {
    using limited = within(greetingMs, { signal: over });
    return await QmpClient.connect(path, limited);
  } catch {
    return undefined; // hung, or somebody else is connected; tried again later
  }
}
