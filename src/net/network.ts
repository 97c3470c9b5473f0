import type { Logger, Waiting } from '#host';
import type { NetlinkSocket } from '#netlink';
import type { HostAccess, ManagedNetwork } from '#spec';
import { applyBridge, inspectBridge, type ReadyBridge } from './bridge.ts';
import { NetError } from './error.ts';
import type { Notices } from './notices.ts';
import { overlappingNetwork } from './plan.ts';
import { hostNameservers } from './resolver.ts';
import type { NetworkStore } from './store.ts';
import { replugTap } from './tap.ts';

/** A managed network with nothing left open. */
export interface SettledNetwork extends ManagedNetwork {
  readonly nameservers: readonly string[];
  readonly hostAccess: HostAccess;
}

export interface NetworkHost {
  readonly netlink: NetlinkSocket;
  readonly store: NetworkStore;
  readonly notices: Notices;
  readonly log: Logger;
}

/** A network as it is wanted, but with the address that its guests know while there are any. */
export async function settleNetwork(
  wanted: ManagedNetwork,
  { store, notices }: Pick<NetworkHost, 'store' | 'notices'>,
): Promise<SettledNetwork> {
  const { bridge, hostAccess = 'closed' } = wanted;
  const record = await store.record(bridge);
  const inUse = record !== undefined && (await store.claims(bridge)).length > 0;
  const { address, prefix } = inUse ? record : wanted;
  if (address !== wanted.address || prefix !== wanted.prefix) {
    const [has, gets] = [`${address}/${prefix}`, `${wanted.address}/${wanted.prefix}`];
    notices.warn('network keeps its address until its last VM is gone', { bridge, has, gets });
  }
  return { bridge, address, prefix, hostAccess, nameservers: await nameserversOf(wanted, notices) };
}

async function nameserversOf(
  { bridge, nameservers = [] }: ManagedNetwork,
  notices: Notices,
): Promise<readonly string[]> {
  if (nameservers.length > 0) return nameservers;
  const found = await hostNameservers();
  if (found.length === 0) {
    const advice = 'list nameservers in its managed_network block';
    notices.warn('guests get no name server: the host has none they can reach', { bridge, advice });
  }
  return found;
}

/** Has the network's bridge there, as it should be, with the running VMs in it. */
export async function useBridge(
  network: SettledNetwork,
  host: NetworkHost,
  waiting: Waiting,
): Promise<ReadyBridge> {
  const { bridge } = network;
  const { netlink, store, log } = host;
  await refuseOverlap(network, store);
  const plan = await inspectBridge(netlink, network, waiting);
  const owned = plan !== 'foreign';
  if (!owned) log.info('using a bridge that was there', { bridge, address: network.address });
  await store.keepRecord({ ...network, owned });
  const ready = await applyBridge(netlink, network, plan, { log, ...waiting });
  // A bridge that had to be made again gets its running VMs back.
  const claims = plan === 'create' ? await store.claims(bridge) : [];
  for (const claim of claims) {
    const nic = { ...claim, managed: true };
    await replugTap(nic, { netlink, bridge: ready.link, log }, waiting);
  }
  return ready;
}

async function refuseOverlap(network: SettledNetwork, store: NetworkStore): Promise<void> {
  const { bridge, address, prefix } = network;
  const records = (await store.networks()).map(({ record }) => record);
  const other = overlappingNetwork(network, records);
  if (other === undefined) return;
  const its = `${other.bridge} (${other.address}/${other.prefix})`;
  throw new NetError('bridge', `network ${bridge} (${address}/${prefix}) overlaps ${its}`);
}
