import type { Logger } from '#host';
import { within } from '#host';
import type { QmpClient, QmpEvent } from '#qmp';
import { messageOf } from '../error.ts';
import type { DomainState } from '../virtualizer.ts';
import { mayFollow } from './state.ts';

const statusMs = 1000;

/**
 * The state of one VM, changed by the driver's commands and by QEMU's events. A transition that the table does not
 * allow is a bug.
 */
export class GuestState {
  readonly #vm: string;
  readonly #log: Logger;
  readonly #onPaused: () => void;
  #current: DomainState = 'starting';

  constructor(
    vm: string,
    { log, onPaused }: { readonly log: Logger; readonly onPaused: () => void },
  ) {
    this.#vm = vm;
    this.#log = log;
    this.#onPaused = onPaused;
  }

  get current(): DomainState {
    return this.#current;
  }

  enter(state: DomainState): void {
    if (!mayFollow(this.#current, state)) {
      throw new Error(`VM ${this.#vm}: no transition from ${this.#current} to ${state}`);
    }
    this.#log.debug('VM state', { vm: this.#vm, from: this.#current, to: state });
    this.#current = state;
    if (state === 'paused') this.#onPaused();
  }

  observe({ event }: QmpEvent): void {
    if (event === 'STOP') this.#setRunning(false);
    if (event === 'RESUME') this.#setRunning(true);
  }

  /** For a new connection: the guest may have been paused or resumed while there was none. */
  async resync(client: QmpClient): Promise<void> {
    using limited = within(statusMs);
    try {
      const { running } = await client.execute('query-status', {}, limited);
      this.#setRunning(running);
    } catch (error) {
      this.#log.debug('VM state could not be queried', { vm: this.#vm, error: messageOf(error) });
    }
  }

  #setRunning(running: boolean): void {
    if (!running && this.#current === 'running') this.enter('paused');
    if (running && this.#current === 'paused') this.enter('running');
  }
}
