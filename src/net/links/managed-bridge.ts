import { isDeepStrictEqual } from 'node:util';
import type { Logger } from '#host';
import type { NetlinkSocket } from '#netlink';
import type { HostAccess, ManagedNetwork, Waiting } from '#spec';
import { NetError } from '../model/error.ts';
import type { WarnOnce } from '../model/warn-once.ts';
import type { NetworkStore } from '../store/store.ts';
import { overlappingNetwork } from '../store/subnets.ts';
import { applyBridge, inspectBridge, type ReadyBridge } from './bridge.ts';
import { hostNameservers } from './resolver.ts';
import { replugTap } from './tap.ts';

/** A managed network without optional fields. */
export interface ResolvedNetwork extends ManagedNetwork {
  readonly nameservers: readonly string[];
  readonly hostAccess: HostAccess;
}

export interface NetworkHost {
  readonly netlink: NetlinkSocket;
  readonly store: NetworkStore;
  readonly warnOnce: WarnOnce;
  readonly log: Logger;
}

/** The configured network with its defaults; while it has VMs it keeps the address that their guests were given. */
export async function resolveNetwork(
  wanted: ManagedNetwork,
  { store, warnOnce }: Pick<NetworkHost, 'store' | 'warnOnce'>,
): Promise<ResolvedNetwork> {
  const { bridge, hostAccess = 'closed' } = wanted;
  const record = await store.record(bridge);
  const inUse = record !== undefined && (await store.claims(bridge)).length > 0;
  const { address, prefix } = inUse ? record : wanted;
  if (address !== wanted.address || prefix !== wanted.prefix) {
    const [has, gets] = [`${address}/${prefix}`, `${wanted.address}/${wanted.prefix}`];
    warnOnce.warn('network keeps its address until its last VM is gone', { bridge, has, gets });
  }
  return {
    bridge,
    address,
    prefix,
    hostAccess,
    nameservers: await nameserversOf(wanted, warnOnce),
  };
}

async function nameserversOf(
  { bridge, nameservers = [] }: ManagedNetwork,
  warnOnce: WarnOnce,
): Promise<readonly string[]> {
  if (nameservers.length > 0) return nameservers;
  const found = await hostNameservers();
  if (found.length === 0) {
    const advice = 'list nameservers in its managed_network block';
    warnOnce.warn('guests get no name server: the host has none they can reach', {
      bridge,
      advice,
    });
  }
  return found;
}

/** Ensures that the network's bridge exists as configured. One that had to be made again gets its running VMs back. */
export async function useBridge(
  network: ResolvedNetwork,
  host: NetworkHost,
  waiting: Waiting,
): Promise<ReadyBridge> {
  const { bridge } = network;
  const { netlink, store, log } = host;
  await refuseOverlap(network, store);
  const inspected = await inspectBridge(netlink, network, waiting);
  const owned = inspected.plan !== 'foreign';
  if (!owned) log.info('using a bridge that existed', { bridge, address: network.address });
  const record = { ...network, owned };
  if (!isDeepStrictEqual(record, await store.record(bridge))) await store.keepRecord(record);
  const ready = await applyBridge(netlink, network, inspected, { log, ...waiting });
  const claims = inspected.plan === 'create' ? await store.claims(bridge) : [];
  for (const claim of claims) {
    const nic = { ...claim, managed: true };
    await replugTap(nic, { netlink, bridge: ready.link, log }, waiting);
  }
  return ready;
}

async function refuseOverlap(network: ResolvedNetwork, store: NetworkStore): Promise<void> {
  const { bridge, address, prefix } = network;
  const records = (await store.networks()).map(({ record }) => record);
  const other = overlappingNetwork(network, records);
  if (other === undefined) return;
  const its = `${other.bridge} (${other.address}/${other.prefix})`;
  throw new NetError('host', `network ${bridge} (${address}/${prefix}) overlaps ${its}`);
}
