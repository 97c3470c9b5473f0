import type { Link } from '#netlink';
import { NetError } from '../model/error.ts';
import { isAliasOf, nicMac, ownerInAlias, tapMac, tapName } from '../model/names.ts';
import type { BridgeRequest } from '../model/nic.ts';

/** The names of a NIC on the host. */
export interface TapPlan {
  readonly tap: string;
  readonly mac: string;
  readonly bridge: string;
  readonly managed: boolean;
  readonly queues: number;
}

/** Chooses the names of a NIC. A MAC address is one VM's on the whole host: VMs on other bridges may move. */
export function planTap(
  request: BridgeRequest,
  managed: boolean,
  links: readonly Pick<Link, 'name' | 'address' | 'alias'>[],
): TapPlan {
  const { vm, index, bridge, queues = 1, mac = nicMac(vm, index) } = request;
  refuseTakenMac({ vm, index, mac }, links);
  const taken = new Set(links.map(({ name }) => name));
  for (let attempt = 0; attempt < 16; attempt++) {
    const tap = tapName(vm, index, attempt);
    if (!taken.has(tap)) return { tap, mac, bridge, managed, queues };
  }
  throw new NetError('host', `VM ${vm}: every name for the tap of NIC ${index} is taken`);
}

function refuseTakenMac(
  { vm, index, mac }: { readonly vm: string; readonly index: number; readonly mac: string },
  links: readonly Pick<Link, 'address' | 'alias'>[],
): void {
  const other = links.find(
    ({ address, alias }) =>
      address === tapMac(mac) && ownerInAlias(alias) !== undefined && !isAliasOf(alias, vm, index),
  );
  if (other === undefined) return;
  throw new NetError(
    'host',
    `VM ${vm}: mac ${mac} is that of VM ${ownerInAlias(other.alias)}, or differs from it in the first byte only: ` +
      'each VM of a host needs another one',
  );
}

/** The guest's MTU: the bridge's, unless the job asks for a smaller one. */
export function chooseMtu(
  { vm, bridge, mtu }: Pick<BridgeRequest, 'vm' | 'bridge' | 'mtu'>,
  link: Pick<Link, 'mtu'>,
): number {
  if (mtu === undefined || mtu <= link.mtu) return mtu ?? link.mtu;
  throw new NetError('host', `VM ${vm}: mtu ${mtu}: bridge ${bridge} carries ${link.mtu} bytes`);
}
