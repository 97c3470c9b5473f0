import type { Logger } from '#host';
import { formatIpv6, parseAddress6 } from '#spec';
import type { ReadyBridge } from '../links/bridge.ts';
import type { ResolvedNetwork } from '../links/managed-bridge.ts';
import { type BridgeServer, PerBridge } from '../links/per-bridge.ts';
import { hostResolvers } from '../links/resolver.ts';
import { resolverPort } from '../model/names.ts';
import { namesOf } from '../store/claim.ts';
import { KnownGuests } from '../store/known-guests.ts';
import type { NetworkStore } from '../store/store.ts';
import { Forwarder } from './forwarder.ts';
import { DnsServer } from './server.ts';
import { makeZone } from './zone.ts';

interface Wanted {
  /** A bridge that was made again is another link: a socket bound to the old one receives nothing. */
  readonly linkIndex: number;
  readonly domain: string;
  readonly address: string;
  readonly prefix: number;
  /** With its prefix, in a network with IPv6. */
  readonly address6?: string;
  /** Those of the configuration; [] for the host's, as they are when asked. */
  readonly servers: readonly string[];
}

/** This process's name servers, for each managed bridge in use that has a domain one at each of its addresses. */
export class Resolvers implements AsyncDisposable {
  readonly #store: NetworkStore;
  readonly #table: string;
  readonly #log: Logger;
  readonly #servers = new PerBridge<Wanted>((bridge, wanted) => this.#open(bridge, wanted));

  constructor(
    store: NetworkStore,
    { table, log }: { readonly table: string; readonly log: Logger },
  ) {
    this.#store = store;
    this.#table = table;
    this.#log = log;
  }

  /**
   * Ensures that they run for the bridge, with the network's settings as they are now. A failure is only logged, since
   * guests have other name servers, too.
   */
  async ensure(network: ResolvedNetwork, ready: ReadyBridge): Promise<void> {
    const { bridge } = network;
    try {
      await this.#servers.ensure(bridge, wantedFor(network, ready));
    } catch (error) {
      this.#log.warn('no name server for guests: they ask those of the network', { bridge, error });
    }
  }

  forget(bridge: string): void {
    this.#servers.forget(bridge);
  }

  async stop(bridge: string): Promise<void> {
    await this.#servers.stop(bridge);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#servers[Symbol.asyncDispose]();
  }

  async #open(bridge: string, wanted: Wanted): Promise<BridgeServer> {
    const { address, servers } = wanted;
    const guests = new KnownGuests(this.#store, bridge, (claims) => makeZone(wanted, claims));
    const port = resolverPort(this.#table, bridge);
    const upstream = async () => (servers.length > 0 ? servers : hostResolvers());
    const options = { bridge, port, guests, upstream, forwarder: new Forwarder(), log: this.#log };
    const open = (at: string): Promise<DnsServer> => DnsServer.open({ ...options, address: at });
    const six = parseAddress6(wanted.address6 ?? '');
    const four = await open(address);
    // One that could not be opened is tried again with the next VM; the other answers all the same.
    const other =
      six && (await open(formatIpv6(six.address)).catch((error) => this.#missing(bridge, error)));
    const both = other === undefined ? [four] : [four, other];
    const isWhole = six === undefined || other !== undefined;
    return {
      get failed() {
        return !isWhole || both.some((server) => server.failed);
      },
      forget: () => guests.forget(),
      async [Symbol.asyncDispose]() {
        for (const server of both) await server[Symbol.asyncDispose]();
      },
    };
  }

  #missing(bridge: string, error: unknown): undefined {
    this.#log.warn('the name server for guests is not reached over IPv6', { bridge, error });
  }
}

function wantedFor(
  network: ResolvedNetwork,
  { link, owned, address6 }: ReadyBridge,
): Wanted | undefined {
  const { address, prefix, upstream: servers } = network;
  const domain = namesOf({ ...network, owned });
  if (domain === undefined) return undefined;
  const six = address6 === undefined ? {} : { address6 };
  return { linkIndex: link.index, domain, address, prefix, ...six, servers };
}
