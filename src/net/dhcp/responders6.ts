import type { Logger } from '#host';
import { parseAddress6, parseIpv6 } from '#spec';
import type { ReadyBridge } from '../links/bridge.ts';
import type { ResolvedNetwork } from '../links/managed-bridge.ts';
import type { BridgeServer, ServerKind } from '../links/per-bridge.ts';
import { resolverConfig } from '../store/claim.ts';
import { KnownGuests } from '../store/known-guests.ts';
import type { NetworkStore } from '../store/store.ts';
import { Advertiser } from './advertiser.ts';
import { type Admit, Guests6 } from './guests6.ts';
import { byLinkLocal, type Network6, serverIdOf } from './network6.ts';
import { Dhcp6Server } from './server6.ts';

interface Parts {
  readonly admit: Admit;
  readonly log: Logger;
}

/**
 * Router advertisements and DHCPv6, in networks with DHCP and IPv6. On a bridge that existed before, others may be the
 * router. Guests have their address from the seed, too.
 */
export function responders6(store: NetworkStore, parts: Parts): ServerKind<Network6> {
  return {
    missing: 'no router advertisements and DHCPv6',
    wanted: networkFor,
    open: (bridge, network) => open(store, { bridge, network }, parts),
  };
}

async function open(
  store: NetworkStore,
  { bridge, network }: { readonly bridge: string; readonly network: Network6 },
  { admit, log }: Parts,
): Promise<BridgeServer> {
  const known = new KnownGuests(store, bridge, byLinkLocal);
  await using stack = new AsyncDisposableStack();
  const guests = stack.use(new Guests6({ bridge, known, admit }));
  const options = { bridge, network, guests, log };
  const server = stack.use(await Dhcp6Server.open(options));
  const advertiser = stack.use(await Advertiser.open(options));
  const opened = stack.move();
  log.info('router advertisements and DHCPv6 started', { bridge });
  return {
    get failed() {
      return server.failed || advertiser.failed;
    },
    forget: () => known.forget(),
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  };
}

function networkFor(
  resolved: ResolvedNetwork,
  { link, owned, address6 }: ReadyBridge,
): Network6 | undefined {
  const address = parseAddress6(address6 ?? '');
  if (address === undefined || !owned || resolved.dhcp === false) return undefined;
  const { nameservers, searches } = resolverConfig({ ...resolved, owned });
  return {
    address,
    mac: link.address,
    serverId: serverIdOf(link.address),
    // Ours comes first; it is reached at either address.
    nameservers: [
      ...(searches.length > 0 ? [address.address] : []),
      ...nameservers.flatMap((server) => parseIpv6(server) ?? []),
    ],
    searches,
    mtu: link.mtu,
  };
}
