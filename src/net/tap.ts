import { closeFd, type Logger, openTap, type Waiting } from '#host';
import {
  changeLink,
  deleteLink,
  findLink,
  type Link,
  listLinks,
  type NetlinkSocket,
} from '#netlink';
import { NetError } from './error.ts';
import { addressInAlias, isAliasOf, tapAlias, tapMac } from './names.ts';
import type { NetPlan } from './plan.ts';
import { writeSysctl } from './sysctl.ts';

/**
 * Opens the planned tap and plugs it into the bridge. The tap lives as long as somebody holds the descriptor: QEMU
 * inherits it, so the kernel removes the tap when QEMU is gone, whoever else is.
 */
export async function plugTap(
  netlink: NetlinkSocket,
  plan: NetPlan,
  nic: {
    readonly vm: string;
    readonly index: number;
    readonly bridge: Link;
    /** Its address in a managed network. */
    readonly ip?: string;
  },
  waiting: Waiting,
): Promise<number> {
  const fd = open(plan, nic.vm);
  try {
    const link = await findLink(netlink, plan.tap, waiting);
    if (link === undefined) throw new NetError('tap', `tap ${plan.tap} disappeared`);
    // The host has no business on this link other than bridging: no address of its own, no advertisements taken.
    writeSysctl(`net/ipv6/conf/${plan.tap}/accept_ra`, '0');
    writeSysctl(`net/ipv6/conf/${plan.tap}/disable_ipv6`, '1');
    // A bridge hands frames to 01:80:c2:00:00:0X to the host as if they had come to the port itself: no answer to ARP
    // from there, or guests could fill the host's neighbour table.
    writeSysctl(`net/ipv4/conf/${plan.tap}/arp_ignore`, '8');
    const alias = tapAlias(nic.vm, nic.index, nic.ip);
    const { index: master, mtu } = nic.bridge;
    const address = tapMac(plan.mac);
    await changeLink(netlink, link, { alias, mtu, address, master }, waiting);
    if (nic.ip !== undefined) await refuseShared(netlink, { ...nic, ip: nic.ip, link }, waiting);
    // A guest that asks for a port it publishes itself is answered through the port the question came from.
    const port = { hairpin: plan.managed };
    await changeLink(netlink, link, { port, up: true }, waiting);
    return fd;
  } catch (cause) {
    closeFd(fd);
    if (cause instanceof NetError) throw cause;
    const what = `VM ${nic.vm}: plugging tap ${plan.tap} into bridge ${plan.bridge} failed`;
    throw new NetError('tap', what, { cause });
  }
}

/**
 * Two agents that choose an address in the same moment don't know of each other yet. Each looks around after it has
 * said which one is its own, so at least the later one finds the other.
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
  const what = `VM ${vm}: address ${ip} on ${bridge.name} was taken in the same moment`;
  throw new NetError('address', `${what} by another agent, for its tap ${other.name}`);
}

/** Puts a NIC's tap back into its bridge when something took it out. */
export async function replugTap(
  nic: { readonly vm: string; readonly tap: string; readonly managed: boolean },
  host: { readonly netlink: NetlinkSocket; readonly bridge: Link; readonly log: Logger },
  waiting: Waiting,
): Promise<void> {
  const { netlink, bridge, log } = host;
  const link = await findLink(netlink, nic.tap, waiting);
  if (link === undefined || (link.master === bridge.index && link.up)) return;
  await changeLink(netlink, link, { master: bridge.index, up: true }, waiting);
  const { vm, tap, managed } = nic;
  // What a port was told goes when it leaves.
  await changeLink(netlink, link, { port: { hairpin: managed } }, waiting);
  log.warn('tap had left its bridge and was put back', { vm, tap, bridge: bridge.name });
}

/** Removes a tap that somebody still holds open; only if it is that NIC's. */
export async function removeTap(
  netlink: NetlinkSocket,
  nic: { readonly tap: string; readonly vm: string; readonly index: number },
  waiting: Waiting,
): Promise<void> {
  const link = await findLink(netlink, nic.tap, waiting);
  if (link?.kind !== 'tun' || !isAliasOf(link.alias, nic.vm, nic.index)) return;
  await deleteLink(netlink, link, waiting);
}

/** A guest in a managed network must not change what the rules have seen; on other bridges there are none. */
function open({ tap, managed }: NetPlan, vm: string): number {
  try {
    return openTap(tap, { offload: !managed }).fd;
  } catch (cause) {
    throw new NetError('tap', `VM ${vm}: opening tap ${tap} failed`, { cause });
  }
}
