import { isDeepStrictEqual } from 'node:util';
import type { Logger } from '#host';
import type { ReadyBridge } from './bridge.ts';
import type { ResolvedNetwork } from './managed-bridge.ts';

/** What answers the guests of one bridge. */
export interface BridgeServer extends AsyncDisposable {
  /** Whether one of its sockets has failed. */
  readonly failed: boolean;
  /** VMs have come or gone: the next question is answered from the files as they are then. */
  forget(): void;
}

/** What servers of one kind are, and which bridges have one. */
export interface ServerKind<Wanted> {
  /** The message when one can't be opened. That is no error: guests do without it. */
  readonly missing: string;
  /** What one of this network serves; undefined where there is to be none. */
  readonly wanted: (network: ResolvedNetwork, ready: ReadyBridge) => Wanted | undefined;
  /** `running` are those of this kind that are open. Gives none where another program serves the bridge. */
  readonly open: (
    bridge: string,
    wanted: Wanted,
    running: number,
  ) => Promise<BridgeServer | undefined>;
}

/** This process's servers of one kind, one for each bridge, with what each was opened for. */
export interface GuestServers extends AsyncDisposable {
  /** Ensures that one runs for the bridge, with the network's settings as they are now, or none. */
  ensure(network: ResolvedNetwork, ready: ReadyBridge): Promise<void>;
  /** The bridge's guests have changed. */
  forget(bridge: string): void;
  stop(bridge: string): Promise<void>;
}

interface Running<Wanted> {
  readonly server: BridgeServer;
  readonly wanted: Wanted;
  /** A bridge that was made again is another link: a socket bound to the old one receives nothing. */
  readonly linkIndex: number;
}

export class PerBridge<Wanted> implements GuestServers {
  readonly #kind: ServerKind<Wanted>;
  readonly #log: Logger;
  readonly #running = new Map<string, Running<Wanted>>();

  constructor(kind: ServerKind<Wanted>, log: Logger) {
    this.#kind = kind;
    this.#log = log;
  }

  async ensure(network: ResolvedNetwork, ready: ReadyBridge): Promise<void> {
    const { bridge } = network;
    const wanted = this.#kind.wanted(network, ready);
    try {
      await this.#ensure(bridge, { wanted, linkIndex: ready.link.index });
    } catch (error) {
      this.#log.warn(this.#kind.missing, { bridge, error });
    }
  }

  async #ensure(
    bridge: string,
    { wanted, linkIndex }: { readonly wanted: Wanted | undefined; readonly linkIndex: number },
  ): Promise<void> {
    const running = this.#running.get(bridge);
    if (running?.server.failed === false && running.linkIndex === linkIndex) {
      if (isDeepStrictEqual(running.wanted, wanted)) return running.server.forget();
    }
    await this.stop(bridge);
    if (wanted === undefined) return;
    const server = await this.#kind.open(bridge, wanted, this.#running.size);
    if (server !== undefined) this.#running.set(bridge, { server, wanted, linkIndex });
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
