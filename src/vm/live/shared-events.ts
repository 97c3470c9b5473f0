import type { Logger } from '#host';
import { messageOf } from '../error.ts';
import { leaveEvent, takeEvents } from '../store/left-events.ts';
import { vmPaths } from '../store/paths.ts';
import { EventFeed } from './task-events.ts';

interface SharedEventsOptions {
  readonly dataDir: string;
  readonly runDir: string;
  readonly log: Logger;
}

/**
 * Events of networks, which several plugin processes with one data_dir put back for each other's VMs. Nomad takes an event of
 * a task from the driver of the task only, so each reaches the process whose VM it is.
 */
export class SharedEvents<Vm> {
  readonly feed = new EventFeed();
  /** The VMs of this process, by name. */
  readonly own = new Map<string, Vm>();
  readonly #options: SharedEventsOptions;

  constructor(options: SharedEventsOptions) {
    this.#options = options;
  }

  /** Reports an event of a VM of this process, and leaves that of another one in the directory of the VM. */
  report(vm: string, message: string): void {
    const { feed, own } = this;
    if (own.has(vm)) {
      feed.of(vm)(message);
      return;
    }
    const left = { atMs: Date.now(), message, annotations: {} };
    void leaveEvent(this.#path(vm), left).catch((error: unknown) =>
      this.#options.log.warn('event of a VM not left to its plugin', {
        vm,
        message,
        error: messageOf(error),
      }),
    );
  }

  /** Reports what others have left, or this process before it had the VM. */
  async take(): Promise<void> {
    const { log } = this.#options;
    for (const vm of this.own.keys()) {
      const taken = takeEvents(this.#path(vm)).catch((error: unknown) => {
        log.warn('events of a VM not taken', { vm, error: messageOf(error) });
        return [];
      });
      for (const event of await taken) this.feed.pass(vm, event);
    }
  }

  #path(vm: string): string {
    const { dataDir, runDir } = this.#options;
    return vmPaths(vm, dataDir, runDir).events;
  }
}
