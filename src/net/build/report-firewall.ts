import type { Waiting } from '#spec';
import { asHostHas } from '../links/host-ipv6.ts';
import type { NicRequest } from '../model/nic.ts';
import type { BridgeGuests } from '../rules/firewall.ts';
import type { NetworkRecord } from '../store/claim.ts';
import type { ManagedHost } from './managed-host.ts';
import { gateway6 } from './plan-address6.ts';
import { joined } from './repair.ts';

/** What a VM that starts has to know of the host's firewall. */
export async function firewallNotes(
  request: NicRequest,
  host: ManagedHost,
  waiting: Waiting,
): Promise<readonly string[]> {
  if (request.kind !== 'bridge') return [];
  const { vm, bridge } = request;
  const guests = guestsOf(bridge, await host.store.record(bridge));
  return host.firewall.notes(guests, vm, waiting);
}

/** A firewall that was started, or changed, after the VMs; `unmanaged` are bridges of others with their VMs. */
export async function reportFirewall(
  host: ManagedHost,
  unmanaged: ReadonlyMap<string, readonly string[]>,
  waiting: Waiting,
): Promise<void> {
  const networks = await host.store.networks();
  const managed = networks.map(({ record, claims }) => {
    const vms = joined(claims, host).map(({ vm }) => vm);
    return { guests: guestsOf(record.bridge, record), vms };
  });
  const others = [...unmanaged]
    .filter(([bridge]) => networks.every(({ record }) => record.bridge !== bridge))
    .map(([bridge, vms]) => ({ guests: guestsOf(bridge, undefined), vms }));
  for (const { guests, vms } of [...managed, ...others]) {
    if (vms.length === 0) continue;
    const news = await host.firewall.news(guests, [...new Set(vms)], waiting);
    for (const vm of news?.vms ?? []) host.onEvent(vm, news?.note ?? '');
  }
}

/** On a bridge of others the host is none of theirs, and where guests may reach all of it, it is the operator's to open. */
function guestsOf(bridge: string, record: NetworkRecord | undefined): BridgeGuests {
  if (record === undefined) return { bridge, hasIpv6: false, isServed: false, isManaged: false };
  const hasIpv6 = gateway6(asHostHas(record)) !== undefined;
  const isServed = record.owned && record.hostAccess === 'closed';
  return { bridge, hasIpv6, isServed, isManaged: true };
}
