import type { Link } from '#netlink';
import { maxMtuOf } from '#spec';
import { NetError } from '../model/error.ts';
import { isAliasOf, nicMac, ownerInAlias, tapMac, tapName } from '../model/names.ts';
import type { NicRequest } from '../model/nic.ts';

/** The names of a NIC on the host. */
export interface TapPlan {
  readonly tap: string;
  readonly mac: string;
  readonly queues: number;
}

/** A tap and the bridge that it goes into. */
export interface BridgedTapPlan extends TapPlan {
  readonly bridge: string;
  readonly managed: boolean;
}

/** Chooses the names of a NIC. A MAC address is one VM's on the whole host: VMs on other bridges may move. */
export function planTap(
  { vm, index, queues = 1, mac = nicMac(vm, index) }: NicRequest,
  links: readonly Pick<Link, 'name' | 'address' | 'alias'>[],
): TapPlan {
  refuseTakenMac({ vm, index, mac }, links);
  const taken = new Set(links.map(({ name }) => name));
  for (let attempt = 0; attempt < 16; attempt++) {
    const tap = tapName(vm, index, attempt);
    if (!taken.has(tap)) return { tap, mac, queues };
  }
  throw new NetError('host', `VM ${vm}: every name for the tap of NIC ${index} is taken`);
}

/** Refuses an address that another VM's link has. */
export function refuseTakenMac(
  { vm, index, mac }: { readonly vm: string; readonly index: number; readonly mac: string },
  links: readonly Pick<Link, 'address' | 'alias'>[],
): void {
  const other = links.find(
    ({ address, alias }) =>
      // A macvtap has the guest's address itself.
      (address === tapMac(mac) || address === mac) &&
      ownerInAlias(alias) !== undefined &&
      !isAliasOf(alias, vm, index),
  );
  if (other === undefined) return;
  throw new NetError(
    'host',
    `VM ${vm}: mac ${mac} is that of VM ${ownerInAlias(other.alias)}, or differs from it in the first byte only: ` +
      'each VM of a host needs another one',
  );
}

/** The guest's MTU: that of the bridge or device, unless the job asks for a smaller one, or its card carries no more. */
export function chooseMtu(
  { vm, mtu, model }: Pick<NicRequest, 'vm' | 'mtu' | 'model'>,
  link: Pick<Link, 'name' | 'mtu'>,
): number {
  if (mtu === undefined) return Math.min(link.mtu, maxMtuOf(model));
  if (mtu <= link.mtu) return mtu;
  throw new NetError('host', `VM ${vm}: mtu ${mtu}: ${link.name} carries ${link.mtu} bytes`);
}

/** QEMU was started with an MTU that another agent's bridge, made meanwhile, may not carry. */
export function refuseSmallerMtu(
  { vm, mtu }: { readonly vm: string; readonly mtu: number },
  bridge: Pick<Link, 'name' | 'mtu'>,
): void {
  if (mtu <= bridge.mtu) return;
  const what = `VM ${vm}: the MTU of bridge ${bridge.name} became ${bridge.mtu} during the start`;
  throw new NetError('host', `${what}, the guest has ${mtu}`);
}
