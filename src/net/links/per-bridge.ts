import { isDeepStrictEqual } from 'node:util';

/** What answers the guests of one bridge. */
export interface BridgeServer extends AsyncDisposable {
  /** Whether one of its sockets has failed. */
  readonly failed: boolean;
  /** VMs have come or gone: the next question is answered from the files as they are then. */
  forget(): void;
}

/** This process's servers of one kind, one for each bridge, with what each was opened for. */
export class PerBridge<Wanted> implements AsyncDisposable {
  readonly #running = new Map<string, { readonly server: BridgeServer; readonly wanted: Wanted }>();
  readonly #open: (bridge: string, wanted: Wanted) => Promise<BridgeServer | undefined>;

  /** `open` gives none where there is to be none. */
  constructor(open: (bridge: string, wanted: Wanted) => Promise<BridgeServer | undefined>) {
    this.#open = open;
  }

  /** How many run. */
  get size(): number {
    return this.#running.size;
  }

  /** Ensures that one runs as wanted, or none. Throws what opening throws. */
  async ensure(bridge: string, wanted: Wanted | undefined): Promise<void> {
    const running = this.#running.get(bridge);
    if (running !== undefined && !running.server.failed) {
      if (isDeepStrictEqual(running.wanted, wanted)) return running.server.forget();
    }
    await this.stop(bridge);
    if (wanted === undefined) return;
    const server = await this.#open(bridge, wanted);
    if (server !== undefined) this.#running.set(bridge, { server, wanted });
  }

  forget(bridge: string): void {
    this.#running.get(bridge)?.server.forget();
  }

  async stop(bridge: string): Promise<void> {
    const running = this.#running.get(bridge);
    this.#running.delete(bridge);
    await running?.server[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const bridge of [...this.#running.keys()]) await this.stop(bridge);
  }
}
