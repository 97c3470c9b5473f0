import { type Logger, pause, within } from '#host';
import { QmpClient, type QmpEvent } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';

const firstPauseMs = 100;
const maxPauseMs = 5000;
const connectMs = 5000;

export interface MonitorOptions {
  readonly path: string;
  /** Connected already; undefined when QEMU does not answer at the moment. */
  readonly client: QmpClient | undefined;
  readonly isAlive: () => boolean;
  readonly onEvent: (event: QmpEvent) => void;
  /** Called after a reconnect: events may have been missed. */
  readonly onReconnect: (client: QmpClient) => void;
  readonly log: Logger;
}

/** Keeps one QMP connection for as long as QEMU runs: reconnects after every failure, whatever QEMU sent. */
export class Monitor implements AsyncDisposable {
  readonly #options: MonitorOptions;
  readonly #disposed = new AbortController();
  readonly #following: Promise<void>;
  #client: QmpClient | undefined;

  private constructor(options: MonitorOptions) {
    this.#options = options;
    this.#client = options.client;
    this.#following = this.#follow();
  }

  static keep(options: MonitorOptions): Monitor {
    return new Monitor(options);
  }

  /** undefined while there is no connection. */
  get client(): QmpClient | undefined {
    return this.#client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed.abort();
    await this.#client?.[Symbol.asyncDispose]();
    await this.#following;
  }

  async #follow(): Promise<void> {
    const { isAlive, log, path } = this.#options;
    let pauseMs = firstPauseMs;
    while (!this.#disposed.signal.aborted) {
      if (this.#client !== undefined) {
        await this.#followConnection(this.#client);
        pauseMs = firstPauseMs;
        this.#client = undefined;
      }
      await pause(pauseMs, this.#disposed).catch(() => {});
      if (this.#disposed.signal.aborted || !isAlive()) return;
      if (pauseMs === firstPauseMs) log.warn('no QMP connection; reconnecting', { path });
      pauseMs = Math.min(pauseMs * 2, maxPauseMs);
      this.#client = await this.#connect();
    }
    // Connected while this was disposed of.
    await this.#client?.[Symbol.asyncDispose]();
  }

  /** Undefined where QEMU hangs, or another client is connected: it is tried again. */
  async #connect(): Promise<QmpClient | undefined> {
    const { log, path } = this.#options;
    try {
      using limited = within(connectMs, this.#disposed);
      const client = await QmpClient.connect(path, limited);
      log.info('QMP connected again', { path });
      return client;
    } catch (error) {
      log.debug('QMP does not answer', { path, error: messageOf(error) });
      return undefined;
    }
  }

  async #followConnection(client: QmpClient): Promise<void> {
    // Subscribed before any command, so that no event is missed.
    const events = client.events();
    if (client !== this.#options.client) this.#options.onReconnect(client);
    try {
      for await (const event of events) this.#options.onEvent(event);
    } catch (error) {
      this.#options.log.debug('QMP events ended', { error: messageOf(error) });
    }
    await client[Symbol.asyncDispose]();
  }
}

/** Whether the guest is paused; false where QEMU does not answer in time. */
export async function isPaused(qmp: QmpClient, waiting: Waiting): Promise<boolean> {
  try {
    return !(await qmp.execute('query-status', {}, waiting)).running;
  } catch {
    return false; // the end of the connection is reported elsewhere
  }
}
