import type { Logger, Waiting } from '#host';
import {
  addAddress,
  changeLink,
  createLink,
  defaultRoute,
  deleteLink,
  findLink,
  type Link,
  listAddresses,
  listLinks,
  type NetlinkSocket,
} from '#netlink';
import type { ManagedNetwork } from '#spec';
import { NetError } from './error.ts';
import { bridgeMac, ownAlias } from './names.ts';
import { type BridgePlan, ownsBridge, planBridge } from './plan.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';

/** A bridge that is there, and whether the driver made it. */
export interface ReadyBridge {
  readonly link: Link;
  readonly owned: boolean;
}

/** What is to be done to have the managed network's bridge; refuses one that isn't what was configured. */
export async function inspectBridge(
  netlink: NetlinkSocket,
  network: ManagedNetwork,
  waiting: Waiting,
): Promise<BridgePlan> {
  const link = await findLink(netlink, network.bridge, waiting);
  if (link === undefined) return planBridge(network, undefined);
  const addresses = await listAddresses(netlink, waiting);
  return planBridge(network, {
    kind: link.kind,
    alias: link.alias,
    mac: link.address,
    addresses: addresses.filter(({ linkIndex }) => linkIndex === link.index),
  });
}

/** Makes the plan true. Safe to repeat: what an interrupted start left half-made is completed. */
export async function applyBridge(
  netlink: NetlinkSocket,
  network: ManagedNetwork,
  plan: BridgePlan,
  { log, signal }: Waiting & { readonly log: Logger },
): Promise<ReadyBridge> {
  const waiting = { signal };
  const { bridge } = network;
  if (plan === 'create') {
    const mtu = await uplinkMtu(netlink, waiting);
    // Without STP the forward delay would only make a new port wait before it carries anything.
    const kind = { kind: 'bridge', stp: false, forwardDelayMs: 0 } as const;
    await createLink(netlink, { ...kind, name: bridge, address: bridgeMac(bridge), mtu }, waiting);
    log.info('bridge created', { bridge, address: `${network.address}/${network.prefix}`, mtu });
  }
  const link = await requireLink(netlink, bridge, waiting);
  if (plan !== 'foreign') await dressBridge(netlink, link, network, waiting);
  forward(log);
  return { link: await requireLink(netlink, bridge, waiting), owned: plan !== 'foreign' };
}

async function dressBridge(
  netlink: NetlinkSocket,
  link: Link,
  network: ManagedNetwork,
  waiting: Waiting,
): Promise<void> {
  // The alias first: it is what makes the bridge ours if the rest is interrupted. Frames to 01:80:c2:00:00:0X pass no
  // rule on what comes in, and must teach the bridge nothing: a guest could name its neighbour as their sender and get
  // what is meant for that one (br_handle_frame, __br_handle_local_finish).
  const change = { alias: ownAlias, bridge: { linkLocalLearn: false } };
  await changeLink(netlink, link, change, waiting);
  setBridgeSysctls(link.name);
  const addresses = await listAddresses(netlink, waiting);
  const has = addresses.some(
    (own) => own.linkIndex === link.index && own.address === network.address,
  );
  const { address, prefix } = network;
  if (!has) await addAddress(netlink, { linkIndex: link.index, address, prefix }, waiting);
  if (!link.up) await changeLink(netlink, link, { up: true }, waiting);
}

function setBridgeSysctls(bridge: string): void {
  // Answers to what the host sent from 127.0.0.1 come back over the bridge; the ruleset drops everything else that
  // is addressed to 127.0.0.0/8 there.
  writeSysctl(`net/ipv4/conf/${bridge}/route_localnet`, '1');
  // The network has IPv4 only; a link-local address of the host on it would be a way around the IPv4 rules.
  writeSysctl(`net/ipv6/conf/${bridge}/accept_ra`, '0');
  writeSysctl(`net/ipv6/conf/${bridge}/disable_ipv6`, '1');
}

function forward(log: Logger): void {
  const name = 'net/ipv4/ip_forward';
  if (readSysctl(name) !== '0') return;
  // Never reset: somebody else may have come to rely on it.
  writeSysctl(name, '1');
  log.info('IPv4 forwarding turned on for the host', { sysctl: 'net.ipv4.ip_forward' });
}

/** Guests should not send more than the way out of the host can carry. */
async function uplinkMtu(netlink: NetlinkSocket, waiting: Waiting): Promise<number> {
  const route = await defaultRoute(netlink, waiting);
  const links = route === undefined ? [] : await listLinks(netlink, waiting);
  const uplink = links.find(({ index }) => index === route?.linkIndex);
  return Math.min(1500, uplink?.mtu ?? 1500);
}

/** Deletes the bridge if the driver made it and nothing is plugged into it any more. */
export async function removeBridge(
  netlink: NetlinkSocket,
  bridge: string,
  { log, signal }: Waiting & { readonly log: Logger },
): Promise<void> {
  const links = await listLinks(netlink, { signal });
  const link = links.find(({ name }) => name === bridge);
  if (link === undefined || !ownsBridge({ ...link, mac: link.address })) return;
  const ports = links.filter(({ master }) => master === link.index).map(({ name }) => name);
  if (ports.length > 0) {
    log.warn('bridge kept: links that are not ours are plugged into it', { bridge, ports });
    return;
  }
  await deleteLink(netlink, link, { signal });
  log.info('bridge removed', { bridge });
}

async function requireLink(
  netlink: NetlinkSocket,
  bridge: string,
  waiting: Waiting,
): Promise<Link> {
  const link = await findLink(netlink, bridge, waiting);
  if (link === undefined) throw new NetError('bridge', `bridge ${bridge} disappeared`);
  return link;
}
