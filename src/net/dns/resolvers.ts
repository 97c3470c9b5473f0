import { isDeepStrictEqual } from 'node:util';
import type { Logger } from '#host';
import type { ReadyBridge } from '../links/bridge.ts';
import type { ResolvedNetwork } from '../links/managed-bridge.ts';
import { hostResolvers } from '../links/resolver.ts';
import { resolverPort } from '../model/names.ts';
import { namesOf } from '../store/claim.ts';
import { KnownGuests } from '../store/known-guests.ts';
import type { NetworkStore } from '../store/store.ts';
import { DnsServer } from './server.ts';
import { makeZone } from './zone.ts';

interface Running {
  readonly server: DnsServer;
  readonly wanted: Wanted;
}

interface Wanted {
  /** A bridge that was made again is another link: a socket bound to the old one receives nothing. */
  readonly linkIndex: number;
  readonly domain: string;
  readonly address: string;
  readonly prefix: number;
  /** Those of the configuration; [] for the host's, as they are when asked. */
  readonly servers: readonly string[];
}

/** This process's name servers, one for each managed bridge in use that has a domain. */
export class Resolvers implements AsyncDisposable {
  readonly #store: NetworkStore;
  readonly #table: string;
  readonly #log: Logger;
  readonly #running = new Map<string, Running>();

  constructor(
    store: NetworkStore,
    { table, log }: { readonly table: string; readonly log: Logger },
  ) {
    this.#store = store;
    this.#table = table;
    this.#log = log;
  }

  /**
   * Ensures that one runs for the bridge, with the network's settings as they are now. A failure is only logged, since
   * guests have other name servers, too.
   */
  async ensure(network: ResolvedNetwork, { link, owned }: ReadyBridge): Promise<void> {
    const { bridge, address, prefix, upstream: servers } = network;
    const domain = namesOf({ ...network, owned });
    if (domain === undefined) return this.stop(bridge);
    const wanted = { linkIndex: link.index, domain, address, prefix, servers };
    const running = this.#running.get(bridge);
    if (
      running !== undefined &&
      !running.server.failed &&
      isDeepStrictEqual(running.wanted, wanted)
    ) {
      running.server.forget();
      return;
    }
    await this.stop(bridge);
    try {
      this.#running.set(bridge, { server: await this.#open(bridge, wanted), wanted });
    } catch (error) {
      this.#log.warn('no name server for guests: they ask those of the network', { bridge, error });
    }
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

  async #open(bridge: string, wanted: Wanted): Promise<DnsServer> {
    const { address, servers } = wanted;
    return DnsServer.open({
      bridge,
      address,
      port: resolverPort(this.#table, bridge),
      guests: new KnownGuests(this.#store, bridge, (claims) => makeZone(wanted, claims)),
      upstream: async () => (servers.length > 0 ? servers : hostResolvers()),
      log: this.#log,
    });
  }
}
