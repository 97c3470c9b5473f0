import { closeAside } from '#host';
import {
  addAddress,
  changeLink,
  defaultRoute,
  findLink,
  type Link,
  type LinkAddress,
  listAddresses,
  listLinks,
  NetlinkSocket,
} from '#netlink';
import {
  formatIpv6,
  isLinkLocal6,
  isLoopback,
  linkLocalOf,
  maxMtuOf,
  type PortSpec,
  parseIpv4,
  parseIpv6,
  smallestMtu6,
  type Waiting,
} from '#spec';
import { hostNameservers } from '../links/resolver.ts';
import { openQueues } from '../links/tap.ts';
import { NetError } from '../model/error.ts';
import { type GroupNic, portsInGroup } from '../model/group.ts';
import { nicMac, tapAlias, tapMac, tapName, tapPrefix } from '../model/names.ts';
import { type GroupRequest, portMapOf } from '../model/nic.ts';
import type { UndoWriter } from '../model/undo.ts';
import { applyScript } from '../rules/run-nft.ts';
import { endFlowsOf, endStaleFlows } from '../rules/stale-flows.ts';
import type { GroupHost } from './group-host.ts';
import { formatGroupRules } from './group-rules.ts';
import { checkNamespace, moveLink, setGroupSysctls, takeLoopbackUp } from './namespace.ts';
import { pairPrefix, pairPrefix6, planPair } from './plan-pair.ts';

/** A NIC whose tap is in the namespace, with its address, and carries no traffic yet. */
interface BuiltGroupNic {
  readonly nic: GroupNic;
  /** One for each queue. */
  readonly fds: readonly number[];
  readonly link: Link;
}

/** What the namespace has before the NIC comes. */
interface Found {
  readonly links: readonly Link[];
  readonly addresses: readonly LinkAddress[];
  /** The link that leads out of it. */
  readonly uplink: Link | undefined;
  /** The addresses that its network gave it. */
  readonly ip: string | undefined;
  readonly ip6: string | undefined;
}

/** Builds a NIC in the allocation's namespace. The caller lets no other build there come between. */
export async function buildInGroup(
  request: GroupRequest,
  { host, undo }: { readonly host: GroupHost; readonly undo: UndoWriter },
  waiting: Waiting,
): Promise<BuiltGroupNic> {
  const { vm, index, netns } = request;
  checkNamespace(vm, netns);
  await using there = await NetlinkSocket.open({ netns });
  const found = await look(there, waiting);
  const nic = await planNic(request, found, host, waiting);
  const { queues = 1 } = request;
  const { tap, gateway } = nic;
  const guests = guestAddresses(nic);
  const step = { kind: 'net-group', netns, tap, vm, index, gateway, guests } as const;
  const opened = await undo.perform(step, () => open(nic, { host, there, queues }, waiting));
  return { nic, ...opened };
}

/** The rest, which QEMU's start does not need: the rules come before the tap is up. */
export async function plugInGroup(
  { nic, link }: Pick<BuiltGroupNic, 'nic' | 'link'>,
  { nft, maxConnections, log }: GroupHost,
  waiting: Waiting,
): Promise<void> {
  const { vm, netns, tap, gateway } = nic;
  await applyScript(formatGroupRules(nic, maxConnections), { nft, netns }, waiting);
  await using there = await NetlinkSocket.open({ netns });
  await endOlderFlows(nic, there, { log, ...waiting });
  await changeLink(there, link, { up: true }, waiting);
  log.info('tap joined the network of the group', { vm, tap, netns, gateway });
}

/**
 * Connections are translated as their first packet was. Those of an earlier VM with these addresses must not reach this one,
 * and those to its ports that found no VM must.
 */
async function endOlderFlows(
  nic: GroupNic,
  there: NetlinkSocket,
  { log, signal }: Waiting & Pick<GroupHost, 'log'>,
): Promise<void> {
  const { netns, guest, six } = nic;
  const logged = { log, netns, signal };
  await endFlowsOf(guestAddresses(nic), logged);
  const ports = portsInGroup(nic).map(({ port, guestPort }) => {
    return { label: '', hostIp: '', hostPort: port, guestPort };
  });
  const local = (await listAddresses(there, { signal })).map(({ address }) => address);
  const claim = { ip: guest, ...(six && { ip6: six.guest }), ports };
  await endStaleFlows([claim], new Set(local), logged);
}

function guestAddresses({ mac, guest, six }: GroupNic): string[] {
  return six === undefined ? [guest] : [guest, six.guest, formatIpv6(linkLocalOf(mac))];
}

async function look(there: NetlinkSocket, waiting: Waiting): Promise<Found> {
  const links = await listLinks(there, waiting);
  const addresses = await listAddresses(there, waiting);
  const route = await defaultRoute(there, waiting);
  // A CNI network may have no way out: the other containers are there then.
  const outside = links.find(
    ({ index, name }) =>
      name !== 'lo' &&
      !name.startsWith(tapPrefix) &&
      addresses.some(({ linkIndex, address }) => linkIndex === index && isRouted(address)),
  );
  const uplink = links.find(({ index }) => index === route?.linkIndex) ?? outside;
  const given = addresses
    .filter(({ linkIndex }) => linkIndex === uplink?.index)
    .map(({ address }) => address)
    .filter(isRouted);
  const ip = given.find((address) => parseIpv4(address) !== undefined);
  const ip6 = given.find((address) => parseIpv6(address) !== undefined);
  return { links, addresses, uplink, ip, ip6 };
}

/** Every link has an IPv6 address of its own that leads to its neighbours only. */
function isRouted(address: string): boolean {
  return !isLinkLocal6(parseIpv6(address) ?? 0n);
}

async function planNic(
  request: GroupRequest,
  { links, addresses, uplink, ip, ip6 }: Found,
  { netlink }: GroupHost,
  waiting: Waiting,
): Promise<GroupNic> {
  const { vm, index, netns, ports, hostname, dns, mac = nicMac(vm, index) } = request;
  const { six, ...pair } = planPair(vm, new Set(addresses.map(({ address }) => address)));
  const taken = [...links, ...(await listLinks(netlink, waiting))].map(({ name }) => name);
  const servers = dns?.servers.length ? dns.servers : await hostNameservers();
  const mtu = mtuOf(request, uplink?.mtu ?? 1500);
  const hasSix = ip6 !== undefined && mtu >= smallestMtu6;
  const own = ip ?? ip6;
  return {
    vm,
    index,
    netns,
    tap: freeTapName(vm, index, new Set(taken)),
    mac,
    ...(own === undefined ? {} : { ip: own }),
    ...pair,
    ...(hasSix && { six: { ip: ip6, ...six } }),
    mtu,
    hostname,
    // A server of the group's own at 127.0.0.1 is reached at the gateway address.
    nameservers: servers.map((server) =>
      isLoopback(parseIpv4(server) ?? 0) ? pair.gateway : server,
    ),
    searches: [...(dns?.searches ?? [])],
    portMap: portMapOf(ports),
    ...groupPortsOf(ports),
  };
}

function groupPortsOf(ports: readonly PortSpec[]): Pick<GroupNic, 'groupPorts'> {
  const others = ports.filter(({ groupPort, guestPort }) => (groupPort ?? guestPort) !== guestPort);
  if (others.length === 0) return {};
  return {
    groupPorts: Object.fromEntries(others.map(({ label, groupPort = 0 }) => [label, groupPort])),
  };
}

function mtuOf({ vm, mtu, model }: GroupRequest, ofNetwork: number): number {
  if (mtu === undefined) return Math.min(ofNetwork, maxMtuOf(model));
  if (mtu <= ofNetwork) return mtu;
  throw new NetError(
    'job',
    `VM ${vm}: mtu ${mtu} is more than that of the network of the group, ${ofNetwork}`,
  );
}

function freeTapName(vm: string, index: number, taken: ReadonlySet<string>): string {
  for (let attempt = 0; attempt < 16; attempt += 1) {
    const tap = tapName(vm, index, attempt);
    if (!taken.has(tap)) return tap;
  }
  throw new NetError('host', `VM ${vm}: every name for the tap of NIC ${index} is taken`);
}

/** The address shows the next build in the namespace that it is taken. */
async function open(
  nic: GroupNic,
  {
    host,
    there,
    queues,
  }: { readonly host: GroupHost; readonly there: NetlinkSocket; readonly queues: number },
  waiting: Waiting,
): Promise<Pick<BuiltGroupNic, 'fds' | 'link'>> {
  const { netns, tap, gateway, six } = nic;
  const { netlink } = host;
  const fds = await openQueues({ tap, managed: true, queues });
  try {
    const made = await configure(nic, netlink, waiting);
    const link = await moveLink(made, netns, { here: netlink, there }, waiting);
    await takeLoopbackUp(there, waiting);
    await setGroupSysctls(nic);
    const linkIndex = link.index;
    await addAddress(there, { linkIndex, address: gateway, prefix: pairPrefix }, waiting);
    if (six !== undefined) {
      await addAddress(there, { linkIndex, address: six.gateway, prefix: pairPrefix6 }, waiting);
    }
    return { fds, link };
  } catch (error) {
    await closeAside(...fds);
    throw error;
  }
}

async function configure(
  { vm, index, tap, mac, guest, mtu }: GroupNic,
  netlink: NetlinkSocket,
  waiting: Waiting,
): Promise<Link> {
  const link = await findLink(netlink, tap, waiting);
  if (link === undefined) throw new NetError('host', `VM ${vm}: tap ${tap} disappeared`);
  const change = { alias: tapAlias(vm, index, guest), mtu, address: tapMac(mac) };
  await changeLink(netlink, link, change, waiting);
  return link;
}
