import type { Logger } from '#host';
import { formatIpv6, parseAddress6 } from '#spec';
import type { BridgeServer, ServerKind } from '../links/per-bridge.ts';
import { hostResolvers } from '../links/resolver.ts';
import { resolverPort } from '../model/names.ts';
import { namesOf } from '../store/claim.ts';
import { KnownGuests } from '../store/known-guests.ts';
import type { NetworkStore } from '../store/store.ts';
import { Forwarder } from './forwarder.ts';
import { DnsServer } from './server.ts';
import { makeZone } from './zone.ts';

interface Wanted {
  readonly domain: string;
  readonly address: string;
  readonly prefix: number;
  /** With its prefix, in a network with IPv6. */
  readonly address6?: string;
  /** Those of the configuration; [] for the host's, as they are when asked. */
  readonly servers: readonly string[];
}

interface Parts {
  /** The name of the rules' table, which the servers' port follows from. */
  readonly table: string;
  readonly log: Logger;
}

/** Name servers, in networks that have a domain: one at each address of the bridge. Guests have others, too. */
export function nameServers(store: NetworkStore, parts: Parts): ServerKind<Wanted> {
  return {
    missing: 'no name server for guests: they ask those of the network',
    wanted: (network, { owned, address6 }) => {
      const { address, prefix, upstream: servers } = network;
      const domain = namesOf({ ...network, owned });
      if (domain === undefined) return undefined;
      return { domain, address, prefix, ...(address6 !== undefined && { address6 }), servers };
    },
    open: (bridge, wanted) => open(store, { bridge, wanted }, parts),
  };
}

async function open(
  store: NetworkStore,
  { bridge, wanted }: { readonly bridge: string; readonly wanted: Wanted },
  { table, log }: Parts,
): Promise<BridgeServer> {
  const { address, servers } = wanted;
  const guests = new KnownGuests(store, bridge, (claims) => makeZone(wanted, claims));
  const port = resolverPort(table, bridge);
  const upstream = async () => (servers.length > 0 ? servers : hostResolvers());
  const options = { bridge, port, guests, upstream, forwarder: new Forwarder(), log };
  const openAt = (at: string): Promise<DnsServer> => DnsServer.open({ ...options, address: at });
  const six = parseAddress6(wanted.address6 ?? '');
  const four = await openAt(address);
  // One that could not be opened is tried again with the next VM; the other answers all the same.
  const other =
    six &&
    (await openAt(formatIpv6(six.address)).catch((error: unknown) => {
      log.warn('the name server for guests is not reached over IPv6', { bridge, error });
      return undefined;
    }));
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
