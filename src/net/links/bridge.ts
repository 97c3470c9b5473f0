import type { Logger } from '#host';
import {
  addAddress,
  addLocalRoute,
  changeLink,
  createLink,
  defaultRoute,
  deleteLink,
  findLink,
  type Link,
  type LinkAddress,
  listAddresses,
  listLinks,
  NetlinkError,
  type NetlinkSocket,
} from '#netlink';
import {
  formatAddress6,
  formatIpv6,
  linkLocalOf,
  type ManagedNetwork,
  parseAddress6,
  type Waiting,
} from '#spec';
import { NetError } from '../model/error.ts';
import { bridgeMac } from '../model/names.ts';
import { writeSysctls } from '../model/sysctl.ts';
import { bridgeSysctls, ownBridge } from './bridge-settings.ts';
import { forward, forward6 } from './forwarding.ts';
import { renameLink } from './nic-link.ts';
import { type BridgePlan, ownsBridge, planBridge, renamedBridge } from './plan-bridge.ts';

/** A bridge that exists, and whether the driver made it. */
export interface ReadyBridge {
  readonly link: Link;
  /** The network's, where the bridge has it. */
  readonly address6?: string;
  readonly owned: boolean;
  /** It was made just now: taps of running VMs are outside of it. */
  readonly made: boolean;
}

/** What was found under the name of a managed bridge, and what to do about it. */
interface Inspection {
  readonly plan: BridgePlan;
  readonly link: Link | undefined;
  /** Whether the bridge has the network's address. */
  readonly addressed: boolean;
  readonly addressed6: boolean;
  /** Whether it has the address of the link, which guests know their router by. */
  readonly linkLocal: boolean;
  /** The network's, unless the bridge is one of others that has it not: nothing is added there. */
  readonly address6?: string;
}

/** Finds out how the managed network gets its bridge; refuses one that is not what was configured. */
async function inspectBridge(
  netlink: NetlinkSocket,
  network: ManagedNetwork,
  waiting: Waiting,
): Promise<Inspection> {
  const link = await findLink(netlink, network.bridge, waiting);
  if (link === undefined) {
    const addresses = { addressed: false, addressed6: false, linkLocal: false, ...sixOf(network) };
    return { plan: planBridge(network, undefined), link, ...addresses };
  }
  const all = await listAddresses(netlink, waiting);
  const addresses = all.filter(({ linkIndex }) => linkIndex === link.index);
  const { kind, alias, mtu } = link;
  const own = addresses.filter(({ address }) => !address.includes(':'));
  const found = { kind, alias, mac: link.address, mtu, addresses: own };
  const addressed = addresses.some(({ address }) => address === network.address);
  const addressed6 = addresses.some((each) => written(each) === sixOf(network).address6);
  const linkLocal = addresses.some(({ address }) => address === linkLocalAddress(link));
  const plan = planBridge(network, found);
  const six = plan === 'foreign' && !addressed6 ? {} : sixOf(network);
  return { plan, link, addressed, addressed6, linkLocal, ...six };
}

/** The same, once the driver's own bridge has its name back where something else on the host has renamed it. */
export async function inspectNamed(
  netlink: NetlinkSocket,
  network: ManagedNetwork,
  { log, signal }: Waiting & { readonly log: Logger },
): Promise<Inspection> {
  const inspected = await inspectBridge(netlink, network, { signal });
  if (inspected.plan !== 'create') return inspected;
  const { bridge } = network;
  const renamed = renamedBridge(await listLinks(netlink, { signal }), bridge);
  if (renamed === undefined) return inspected;
  await renameLink(netlink, renamed, bridge, { signal });
  log.warn('bridge was renamed and has its name again', { bridge, was: renamed.name });
  return inspectBridge(netlink, network, { signal });
}

/** Carries the plan out. Safe to repeat: what an interrupted start left half-made is completed. */
export async function applyBridge(
  netlink: NetlinkSocket,
  network: ManagedNetwork,
  inspected: Inspection,
  { log, signal }: Waiting & { readonly log: Logger },
): Promise<ReadyBridge> {
  const waiting = { signal };
  const { plan, address6 } = inspected;
  const link = inspected.link ?? (await createBridge(netlink, network, { log, signal }));
  if (plan !== 'foreign') await configureBridge(netlink, { network, link, inspected }, waiting);
  await forward(log);
  if (address6 !== undefined) await forward6(log);
  return {
    link: { ...link, mtu: network.mtu ?? link.mtu },
    owned: plan !== 'foreign',
    made: plan === 'create',
    ...(address6 !== undefined && { address6 }),
  };
}

async function createBridge(
  netlink: NetlinkSocket,
  { bridge, address, prefix, mtu: wanted }: ManagedNetwork,
  { log, signal }: Waiting & { readonly log: Logger },
): Promise<Link> {
  const mtu = wanted ?? (await uplinkMtu(netlink, { signal }));
  // Without STP the forward delay would only make a new port wait before it carries anything.
  const kind = { kind: 'bridge', stp: false, forwardDelayMs: 0 } as const;
  const mac = bridgeMac(bridge);
  const made = { ...kind, name: bridge, address: mac, mtu };
  await createLink(netlink, made, { signal }).catch(unlessThere);
  log.info('bridge created', { bridge, address: `${address}/${prefix}`, mtu });
  const link = await findLink(netlink, bridge, { signal });
  if (link === undefined) throw new NetError('host', `bridge ${bridge} disappeared`);
  return link;
}

async function configureBridge(
  netlink: NetlinkSocket,
  {
    network,
    link,
    inspected,
  }: { readonly network: ManagedNetwork; readonly link: Link; readonly inspected: Inspection },
  waiting: Waiting,
): Promise<void> {
  // First: it marks the bridge as ours if the rest is interrupted.
  await changeLink(netlink, link, ownBridge, waiting);
  await writeSysctls(bridgeSysctls(network));
  const six = parseAddress6(network.address6 ?? '');
  const { address, prefix, mtu } = network;
  if (mtu !== undefined && mtu !== link.mtu) await changeLink(netlink, link, { mtu }, waiting);
  const linkIndex = link.index;
  if (!inspected.addressed) {
    await addAddress(netlink, { linkIndex, address, prefix }, waiting).catch(unlessThere);
  }
  if (six !== undefined && !inspected.addressed6) {
    const own = { linkIndex, address: formatIpv6(six.address), prefix: six.prefix };
    await addAddress(netlink, own, waiting).catch(unlessThere);
  }
  // The kernel makes it once there is a guest, and not again where it was removed.
  if (six !== undefined && !inspected.linkLocal) {
    const own = { linkIndex, address: linkLocalAddress(link), prefix: 64 };
    await addAddress(netlink, own, waiting).catch(unlessThere);
  }
  if (!link.up) await changeLink(netlink, link, { up: true }, waiting);
  // It goes with the addresses when the link is taken down.
  if (six !== undefined && !inspected.addressed6) await openLoopback6(netlink, link, waiting);
}

/**
 * Lets replies to ::1 arrive from the bridge, which translation makes of those to the bridge's own address: such a packet is
 * for this host where the link has a route for it (rt6_need_strict). What comes from a link with that address is dropped before.
 */
export async function openLoopback6(
  netlink: NetlinkSocket,
  { index: linkIndex }: Pick<Link, 'index'>,
  waiting: Waiting,
): Promise<void> {
  await addLocalRoute(netlink, { linkIndex, address: '::1' }, waiting).catch(unlessThere);
}

/** The address of the link that an own bridge has. */
export function linkLocalAddress({ address }: Pick<Link, 'address'>): string {
  return formatIpv6(linkLocalOf(address));
}

/** Another agent that shares the bridge may be faster. */
function unlessThere(error: unknown): void {
  if (!(error instanceof NetlinkError && error.errno === 'EEXIST')) throw error;
}

function written({ address, prefix }: Omit<LinkAddress, 'linkIndex'>): string {
  return `${address}/${prefix}`;
}

function sixOf({ address6 }: ManagedNetwork): { readonly address6?: string } {
  const six = parseAddress6(address6 ?? '');
  return six === undefined ? {} : { address6: formatAddress6(six) };
}

/** MTU of a bridge that is made without one: guests should not send more than the way out of the host can carry. */
export async function uplinkMtu(netlink: NetlinkSocket, waiting: Waiting): Promise<number> {
  const route = await defaultRoute(netlink, waiting);
  const links = route === undefined ? [] : await listLinks(netlink, waiting);
  const uplink = links.find(({ index }) => index === route?.linkIndex);
  return Math.min(1500, uplink?.mtu ?? 1500);
}

/** Deletes the bridge if the driver made it and no link is plugged into it. */
export async function removeBridge(
  netlink: NetlinkSocket,
  bridge: string,
  { log, signal }: Waiting & { readonly log: Logger },
): Promise<void> {
  const links = await listLinks(netlink, { signal });
  const link = links.find(({ name }) => name === bridge) ?? renamedBridge(links, bridge);
  if (link === undefined || !ownsBridge({ ...link, mac: link.address })) return;
  const ports = links.filter(({ master }) => master === link.index).map(({ name }) => name);
  if (ports.length > 0) {
    log.warn('bridge kept: links that are not ours are plugged into it', { bridge, ports });
    return;
  }
  await deleteLink(netlink, link, { signal });
  log.info('bridge removed', { bridge });
}
