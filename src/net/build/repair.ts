import { listLinks } from '#netlink';
import type { Waiting } from '#spec';
import { useBridge } from '../links/managed-bridge.ts';
import type { NetworkInUse } from '../store/claim.ts';
import type { NetworkStore } from '../store/store.ts';
import type { ManagedHost } from './managed-host.ts';
import { redirectFlows } from './ports.ts';

/** Puts back the rules and bridges of running VMs that were removed from the host. Cheap when nothing is missing. */
export async function restoreNetworks(host: ManagedHost, waiting: Waiting): Promise<void> {
  const { store, rules } = host;
  if ((await networksWithVms(store)).length === 0) return;
  const gone = await rules.gone(waiting);
  if (!gone && (await withoutBridge(host, waiting)).length === 0) return;
  await using _ = await store.lock(waiting);
  // The previous holder of the lock may have ended the last VM.
  if ((await networksWithVms(store)).length === 0) return;
  if (gone) await renewRules(host, waiting);
  for (const { record } of await withoutBridge(host, waiting)) {
    const { owned: _owned, ...network } = record;
    const ready = await useBridge(network, host, waiting);
    await host.responders.ensure(network, ready);
    host.log.warn('bridge of running VMs was gone and was put back', { bridge: record.bridge });
  }
}

/** Applies the rules; where they were missing, also ends the connections made without them. The caller holds the lock. */
export async function renewRules(host: ManagedHost, waiting: Waiting): Promise<void> {
  const { store, rules, log } = host;
  const gone = await rules.gone(waiting);
  await rules.apply(waiting);
  if (!gone) return;
  const claims = (await store.networks()).flatMap((network) => network.claims);
  log.warn('firewall rules of the VMs were gone and were put back', { nics: claims.length });
  await redirectFlows(claims, host, waiting);
}

/** Networks with VMs whose bridge, made by the driver, does not exist. */
async function withoutBridge(
  { netlink, store }: ManagedHost,
  waiting: Waiting,
): Promise<readonly NetworkInUse[]> {
  const networks = await networksWithVms(store);
  const links = new Set((await listLinks(netlink, waiting)).map(({ name }) => name));
  return networks.filter(({ record }) => record.owned && !links.has(record.bridge));
}

async function networksWithVms(store: NetworkStore): Promise<readonly NetworkInUse[]> {
  return (await store.networks()).filter(({ claims }) => claims.length > 0);
}
