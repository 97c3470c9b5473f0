import { closeAside, type Logger, openTap } from '#host';
import {
  changeLink,
  deleteLink,
  findLink,
  type Link,
  listLinks,
  type NetlinkSocket,
} from '#netlink';
import type { Waiting } from '#spec';
import { asNetError, NetError } from '../model/error.ts';
import { addressInAlias, isAliasOf, tapAlias, tapMac } from '../model/names.ts';
import type { OnEvent } from '../model/net.ts';
import type { AttachedNic, ClaimedNic } from '../model/nic.ts';
import { type Sysctls, writeSysctls } from '../model/sysctl.ts';
import type { BridgedTapPlan } from './plan-tap.ts';

/** A NIC that carries traffic once it is plugged in. Without `plug` it does already. */
export type AddressedNic = Omit<ClaimedNic, 'settle'> & {
  readonly plug?: (waiting: Waiting) => Promise<void>;
};

type OpenNic = Omit<AttachedNic, 'claim'>;

/** A NIC whose tap is open and whose address is known. */
export type ReadyNic = OpenNic & AddressedNic;

/** A NIC whose tap is open; its address may be claimed later. */
export type BuiltNic =
  | ReadyNic
  | (OpenNic & { readonly claim: (waiting: Waiting) => Promise<AddressedNic> });

/** Whose tap it is and where it belongs. */
interface TapOwner {
  readonly vm: string;
  readonly index: number;
  readonly bridge: Link;
  /** Its address in a managed network, or those of the job. */
  readonly ip?: string;
  readonly ip6?: string;
}

/**
 * Opens the planned tap, outside its bridge and down. It exists as long as a process holds the descriptor: QEMU
 * inherits it, so the kernel removes the tap when QEMU ends.
 */
export async function openNicTap(
  netlink: NetlinkSocket,
  plan: BridgedTapPlan,
  owner: TapOwner,
  waiting: Waiting,
): Promise<{ readonly fds: readonly number[]; readonly link: Link }> {
  const fds = await openTapOf(owner, plan);
  try {
    return { fds, link: await configureTap(netlink, plan, owner, waiting) };
  } catch (error) {
    await closeAside(...fds);
    throw error;
  }
}

/** Opens the planned tap of that VM: a descriptor for each queue. */
export async function openTapOf(
  { vm }: { readonly vm: string },
  plan: BridgedTapPlan,
): Promise<readonly number[]> {
  return asNetError(`VM ${vm}: opening tap ${plan.tap} failed`, () => openQueues(plan));
}

/** One descriptor a queue. */
export async function openQueues({
  tap,
  managed,
  queues,
}: Pick<BridgedTapPlan, 'tap' | 'managed' | 'queues'>): Promise<readonly number[]> {
  const fds: number[] = [];
  try {
    // No offloads where rules check checksummed fields of what a guest sends.
    const options = { offload: !managed, manyQueues: queues > 1 };
    while (fds.length < queues) fds.push((await openTap(tap, options)).fd);
    return fds;
  } catch (error) {
    await closeAside(...fds);
    throw error;
  }
}

/** Marks an open tap as that NIC's, for other processes, and keeps the host's own traffic off it. */
export async function configureTap(
  netlink: NetlinkSocket,
  { tap, mac }: BridgedTapPlan,
  { vm, index, bridge, ip, ip6 }: TapOwner,
  waiting: Waiting,
): Promise<Link> {
  return asNetError(`VM ${vm}: configuring tap ${tap} failed`, async () => {
    const link = await findLink(netlink, tap, waiting);
    if (link === undefined) throw new NetError('host', `VM ${vm}: tap ${tap} disappeared`);
    // A bridge hands frames to 01:80:c2:00:00:0X to the host as if they had come to the port itself: no answer to ARP
    // from there, or guests could fill the host's neighbour table.
    await writeSysctls({ ...silence(tap), [`net/ipv4/conf/${tap}/arp_ignore`]: '8' });
    const change = {
      alias: tapAlias(vm, index, ip, ip6),
      mtu: bridge.mtu,
      address: tapMac(mac),
    };
    await changeLink(netlink, link, change, waiting);
    return link;
  });
}

/** Settings with which the host has no IPv6 address of its own on a guest's link and takes no advertisements there. */
export function silence(link: string): Sysctls {
  const conf = `net/ipv6/conf/${link}`;
  return { [`${conf}/accept_ra`]: '0', [`${conf}/disable_ipv6`]: '1' };
}

/** Puts an open tap into its bridge and takes it up. */
export async function plugTap(
  netlink: NetlinkSocket,
  nic: TapOwner & { readonly plan: BridgedTapPlan; readonly link: Link },
  waiting: Waiting,
): Promise<void> {
  const { vm, bridge, ip, plan, link } = nic;
  const what = `VM ${vm}: plugging tap ${plan.tap} into bridge ${plan.bridge} failed`;
  await asNetError(what, async () => {
    await changeLink(netlink, link, { master: bridge.index }, waiting);
    if (ip !== undefined) await refuseShared(netlink, { vm, bridge, link, ip }, waiting);
    // A guest that connects to a port it publishes itself is answered through the bridge port the request came from.
    await changeLink(netlink, link, { port: { hairpin: plan.managed }, up: true }, waiting);
  });
}

/**
 * Two agents that choose an address at the same time do not see each other's choice. Each looks at the bridge's taps
 * after its own shows the address there, so at least the later one finds the other: a second look at the links is
 * necessary.
 */
async function refuseShared(
  netlink: NetlinkSocket,
  nic: { readonly vm: string; readonly ip: string; readonly link: Link; readonly bridge: Link },
  waiting: Waiting,
): Promise<void> {
  const { vm, ip, link, bridge } = nic;
  const links = await listLinks(netlink, waiting);
  const other = links.find(
    ({ index, master, alias }) =>
      index !== link.index && master === bridge.index && addressInAlias(alias) === ip,
  );
  if (other === undefined) return;
  const what = `VM ${vm}: address ${ip} on ${bridge.name} was taken at the same time`;
  throw new NetError('host', `${what} by another agent, for its tap ${other.name}`);
}

/** Whether a tap is missing in its bridge. One that is in another bridge was moved there on purpose. */
export function isOutside(tap: Link | undefined, bridge: Link | undefined): boolean {
  if (tap === undefined) return false;
  return tap.master === undefined || (tap.master === bridge?.index && !tap.up);
}

/** Puts a NIC's tap back into its bridge when it was taken out. */
export async function replugTap(
  nic: { readonly vm: string; readonly tap: string; readonly managed: boolean },
  host: {
    readonly netlink: NetlinkSocket;
    readonly bridge: Link;
    readonly log: Logger;
    readonly onEvent: OnEvent;
  },
  waiting: Waiting,
): Promise<void> {
  const { netlink, bridge, log, onEvent } = host;
  const link = await findLink(netlink, nic.tap, waiting);
  if (link === undefined || (link.master === bridge.index && link.up)) return;
  const { vm, tap, managed } = nic;
  // The kernel forgets a port's settings when it leaves. It is up last: a tap that is down is one to be put back again.
  await changeLink(netlink, link, { master: bridge.index, up: false }, waiting);
  await changeLink(netlink, link, { port: { hairpin: managed }, up: true }, waiting);
  log.warn('tap had left its bridge and was put back', { vm, tap, bridge: bridge.name });
  onEvent(vm, `Tap ${tap} had left bridge ${bridge.name} and was put back`);
}

/** Removes a tap that a process still holds open, if it belongs to that NIC. */
export async function removeTap(
  netlink: NetlinkSocket,
  nic: { readonly tap: string; readonly vm: string; readonly index: number },
  waiting: Waiting,
): Promise<void> {
  const link = await findLink(netlink, nic.tap, waiting);
  if (link?.kind !== 'tun' || !isAliasOf(link.alias, nic.vm, nic.index)) return;
  await deleteLink(netlink, link, waiting);
}
