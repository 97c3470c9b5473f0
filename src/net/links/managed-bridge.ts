import { isDeepStrictEqual } from 'node:util';
import type { Logger } from '#host';
import { listLinks, listRoutes, type NetlinkSocket } from '#netlink';
import {
  defaultDomain,
  formatSubnet,
  type HostAccess,
  isLoopback,
  type ManagedNetwork,
  parseIpv4,
  parseIpv6,
  type Waiting,
} from '#spec';
import { NetError } from '../model/error.ts';
import { privateAddress6 } from '../model/names.ts';
import type { OnEvent } from '../model/net.ts';
import type { WarnOnce } from '../model/warn-once.ts';
import type { NetworkStore } from '../store/store.ts';
import { networkSubnet, overlappingNetwork, overlappingRoute } from '../store/subnets.ts';
import { applyBridge, inspectNamed, type ReadyBridge } from './bridge.ts';
import { asHostHas, isIpv6Off } from './host-ipv6.ts';
import { hostNameservers } from './resolver.ts';
import { replugTap } from './tap.ts';

/** A managed network without optional fields. */
export interface ResolvedNetwork extends ManagedNetwork {
  readonly nameservers: readonly string[];
  readonly hostAccess: HostAccess;
  readonly dns: boolean;
  readonly domain: string;
  /** Name servers for a name server of ours; [] for the host's. */
  readonly upstream: readonly string[];
}

export interface NetworkHost {
  readonly netlink: NetlinkSocket;
  readonly store: NetworkStore;
  readonly warnOnce: WarnOnce;
  readonly log: Logger;
  readonly onEvent: OnEvent;
  /** Taps of NICs that are being built: they join their bridge last, and no repair puts them into it before. */
  readonly unplugged: Set<string>;
}

/** The configured network with its defaults; while it has VMs it keeps the address that their guests were given. */
export async function resolveNetwork(
  wanted: ManagedNetwork,
  { store, warnOnce }: Pick<NetworkHost, 'store' | 'warnOnce'>,
): Promise<ResolvedNetwork> {
  const { bridge, hostAccess = 'closed', dns = true, domain = defaultDomain(bridge) } = wanted;
  const record = await store.record(bridge);
  const inUse = record !== undefined && (await store.isClaimed(bridge));
  const asked = withPrivate(wanted);
  const gets = keptOf(asHostHas(asked));
  const kept = inUse ? keptOf(asHostHas(record)) : gets;
  if (asked.address6 !== undefined && isIpv6Off()) {
    const advice =
      'set net.ipv6.conf.all.disable_ipv6=0, or address6 = "off" in its managed_network block';
    warnOnce.warn('network has IPv4 only: this host has IPv6 disabled', { bridge, advice });
  }
  if (!isDeepStrictEqual(kept, gets)) {
    const message = 'network keeps its address and MTU until its last VM is gone';
    warnOnce.warn(message, { bridge, has: formatKept(kept), gets: formatKept(gets) });
  }
  const { mtu: _, address6: __, ...rest } = wanted;
  return {
    ...rest,
    ...kept,
    hostAccess,
    nameservers: await nameserversOf(wanted, warnOnce),
    dns,
    domain: domain.toLowerCase(),
    upstream: wanted.nameservers ?? [],
  };
}

/** What its guests were given. */
function keptOf({
  address,
  prefix,
  address6,
  mtu,
}: ManagedNetwork): Pick<ManagedNetwork, 'address' | 'prefix' | 'address6' | 'mtu'> {
  return {
    address,
    prefix,
    ...(address6 !== undefined && { address6 }),
    ...(mtu !== undefined && { mtu }),
  };
}

function withPrivate(network: ManagedNetwork): ManagedNetwork {
  if (network.address6 !== 'auto') return network;
  return { ...network, address6: privateAddress6(network.bridge) };
}

function formatKept({ address, prefix, address6, mtu }: ReturnType<typeof keptOf>): string {
  const six = address6 === undefined ? '' : `, ${address6}`;
  return `${address}/${prefix}${six}${mtu === undefined ? '' : `, MTU ${mtu}`}`;
}

async function nameserversOf(
  { bridge, nameservers = [], dns = true, address6 }: ManagedNetwork,
  warnOnce: WarnOnce,
): Promise<readonly string[]> {
  const hasIpv6 = address6 !== undefined && !isIpv6Off();
  const own = nameservers.filter((server) => isForGuests(server, hasIpv6));
  const found = nameservers.length > 0 ? own : await hostNameservers();
  // A name server of ours asks those at the host's loopback, too.
  if (found.length === 0 && !dns) {
    const advice = 'list nameservers in its managed_network block';
    warnOnce.warn('guests get no name server: the host has none they can reach', {
      bridge,
      advice,
    });
  }
  return found;
}

/** The host's loopback is not theirs: a name server of ours asks there for them. */
function isForGuests(server: string, hasIpv6: boolean): boolean {
  const six = parseIpv6(server);
  return six === undefined ? !isLoopback(parseIpv4(server) ?? 0) : hasIpv6 && six !== 1n;
}

/** Ensures that the network's bridge exists as configured. One that had to be made again gets its VMs by `replugAll`. */
export async function useBridge(
  network: ResolvedNetwork,
  host: NetworkHost,
  waiting: Waiting,
): Promise<ReadyBridge> {
  const { bridge } = network;
  const { netlink, store, log } = host;
  await refuseOverlap(network, store);
  const inspected = await inspectNamed(netlink, network, { log, ...waiting });
  if (inspected.plan === 'create') await refuseRouted(network, netlink, waiting);
  const owned = inspected.plan !== 'foreign';
  if (!owned) log.info('using a bridge that existed', { bridge, address: network.address });
  const { address6: _, ...rest } = network;
  const { address6 } = inspected;
  const record = { ...rest, ...(address6 !== undefined && { address6 }), owned };
  if (!isDeepStrictEqual(record, await store.record(bridge))) await store.keepRecord(record);
  return applyBridge(netlink, network, inspected, { log, ...waiting });
}

/**
 * Puts the taps of running VMs into a bridge that had to be made again, but for those that are not ready yet. The rules
 * come before that: they may have been removed together with the bridge.
 */
export async function replugAll(
  { link, made }: ReadyBridge,
  host: NetworkHost,
  waiting: Waiting,
): Promise<void> {
  const claims = made ? await host.store.claims(link.name) : [];
  for (const claim of claims.filter(({ tap }) => !host.unplugged.has(tap))) {
    await replugTap({ ...claim, managed: true }, { ...host, bridge: link }, waiting);
  }
}

async function refuseOverlap(network: ResolvedNetwork, store: NetworkStore): Promise<void> {
  const { bridge, address, prefix } = network;
  const other = overlappingNetwork(network, await store.records());
  if (other === undefined) return;
  const its = `${other.bridge} (${other.address}/${other.prefix})`;
  throw new NetError(
    'host',
    `network ${bridge} (${address}/${prefix}) overlaps ${its}, which still has VMs: give its managed_network another ` +
      'address, or wait until they are gone',
  );
}

/** What the host reaches through another link would be out of its reach as soon as the bridge has the address. */
async function refuseRouted(
  network: ResolvedNetwork,
  netlink: NetlinkSocket,
  waiting: Waiting,
): Promise<void> {
  const route = overlappingRoute(network, await listRoutes(netlink, waiting));
  if (route === undefined) return;
  const links = await listLinks(netlink, waiting);
  const link = links.find(({ index }) => index === route.linkIndex)?.name ?? 'another link';
  const its = `${route.destination}/${route.prefix} through ${link}`;
  throw new NetError(
    'host',
    `network ${network.bridge} (${formatSubnet(networkSubnet(network))}) overlaps a route of this host (${its}): ` +
      `give its managed_network another address`,
  );
}
