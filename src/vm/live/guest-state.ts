import type { Logger } from '#host';
import { within } from '#host';
import type { QmpClient, QmpEvent } from '#qmp';
import { messageOf } from '../error.ts';
import type { DomainState } from '../virtualizer.ts';
import { mayFollow } from './state.ts';

const statusMs = 1000;

/** The state of one VM, as orders and QEMU's events change it. A move that the table does not allow is a bug. */
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
      throw new Error(`VM ${this.#vm}: no way from ${this.#current} to ${state}`);
    }
    this.#log.debug('VM state', { vm: this.#vm, from: this.#current, to: state });
    this.#current = state;
    if (state === 'paused') this.#onPaused();
  }

  observe({ event }: QmpEvent): void {
    if (event === 'STOP') this.#guestRuns(false);
    if (event === 'RESUME') this.#guestRuns(true);
  }

  /** After a connection was lost: the guest may have been stopped or resumed meanwhile. */
  async resync(client: QmpClient): Promise<void> {
    try {
      const { running } = await client.execute('query-status', {}, within(statusMs));
      this.#guestRuns(running);
    } catch (error) {
      this.#log.debug('state not known', { vm: this.#vm, error: messageOf(error) });
    }
  }

  #guestRuns(running: boolean): void {
    if (!running && this.#current === 'running') this.enter('paused');
    if (running && this.#current === 'paused') this.enter('running');
  }
}
