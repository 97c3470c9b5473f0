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
import { writeSysctls } from '../model/sysctl.ts';
import type { BridgedTapPlan } from './plan-tap.ts';
import { changedOfTap, type TapOfNic, tapSysctls, wantedMtu } from './tap-settings.ts';

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
    await writeSysctls(tapSysctls(tap));
    const change = {
      alias: tapAlias(vm, index, ip, ip6),
      mtu: bridge.mtu,
      address: tapMac(mac),
    };
    await changeLink(netlink, link, change, waiting);
    return link;
  });
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

/** Puts a NIC's tap back into its bridge when it was taken out, and gives it its settings again. */
export async function replugTap(
  nic: TapOfNic & { readonly vm: string },
  host: {
    readonly netlink: NetlinkSocket;
    readonly bridge: Link;
    readonly log: Logger;
    readonly onEvent: OnEvent;
  },
  waiting: Waiting,
): Promise<void> {
  const { netlink, bridge, log, onEvent } = host;
  const { vm, tap, mac, managed } = nic;
  const found = await findLink(netlink, tap, waiting);
  if (found === undefined) return;
  const isIn = found.master === bridge.index && found.up;
  const changed = isIn ? await changedOfTap(found, bridge, nic) : [];
  if (isIn && changed.length === 0) return;
  // It is up last: a tap that is down is one to be put back again.
  if (!isIn) await changeLink(netlink, found, { master: bridge.index, up: false }, waiting);
  await writeSysctls(tapSysctls(tap));
  // The kernel forgets a port's settings when it leaves.
  const port = managed || !isIn ? { port: { hairpin: managed } } : {};
  const settings = { mtu: wantedMtu(bridge, nic), address: tapMac(mac), ...port };
  await changeLink(netlink, found, { ...settings, up: true }, waiting);
  if (!isIn) {
    log.warn('tap had left its bridge and was put back', { vm, tap, bridge: bridge.name });
    onEvent(vm, `Tap ${tap} had left bridge ${bridge.name} and was put back`);
  } else {
    log.warn('tap was changed and was put back', { vm, tap, changed });
    onEvent(vm, `Tap ${tap} was changed (${changed.join(', ')}) and was put back`);
  }
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
