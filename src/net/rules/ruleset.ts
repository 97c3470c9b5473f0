import { formatSubnet, parseHostPorts, protocolsOf } from '#spec';
import { bridgeMac, tapPrefix } from '../model/names.ts';
import type { NetworkInUse } from '../store/claim.ts';
import { networkSubnet } from '../store/subnets.ts';
import { formatAntiSpoofing } from './anti-spoofing.ts';
import { metadata4, metadata6 } from './metadata.ts';
import { set } from './nft-text.ts';
import { cloudResolvers, resolvers } from './resolver-sets.ts';
import { mappingsOf, maps6, sets6 } from './ruleset6.ts';

// Per guest: more than its programs ask, and little work for the process that answers.
const questions = { rate: 200, burst: 400 };

/**
 * The nftables script that replaces the table by one made from the claims, in one transaction: no packet meets neither
 * or half of a table. With no network in use it deletes the table.
 */
export function formatRuleset(table: string, networks: readonly NetworkInUse[]): string {
  // Adding first makes the deletion succeed when there was no table.
  const removal = ['inet', 'bridge']
    .map((family) => `add table ${family} ${table}\ndelete table ${family} ${table}\n`)
    .join('');
  if (networks.length === 0) return removal;
  const parts = [
    ...sets(networks),
    ...resolvers(table, networks),
    ...maps(networks),
    ...chains,
  ].join('\n');
  return `${removal}table inet ${table} {\n${parts}\n}\n${formatAntiSpoofing(table, networks)}`;
}

function sets(networks: readonly NetworkInUse[]): string[] {
  const bridges = networks.map(({ record }) => `"${record.bridge}"`);
  const owned = networks
    .filter(({ record }) => record.owned)
    .map(({ record }) => `"${record.bridge}"`);
  // A foreign bridge has guests that are not ours.
  const closed = networks
    .filter(({ record }) => record.owned && record.hostAccess === 'closed')
    .map(({ record }) => `"${record.bridge}"`);
  const guests = networks.flatMap(({ claims }) => claims.map(({ ip }) => ip));
  const subnets = networks.map(({ record }) => formatSubnet(networkSubnet(record)));
  const translated = networks
    .filter(({ record }) => record.nat !== false)
    .map(({ record }) => formatSubnet(networkSubnet(record)));
  const isolated = networks.filter(({ record }) => record.isolate).map(({ record }) => record);
  return [
    set('set bridges', 'ifname', bridges),
    set('set owned', 'ifname', owned),
    set('set closed', 'ifname', closed),
    set(
      'set same',
      'ifname . ifname',
      bridges.map((bridge) => `${bridge} . ${bridge}`),
    ),
    set(
      'set gateways',
      'ifname . ether_addr',
      networks.map(({ record }) => `"${record.bridge}" . ${bridgeMac(record.bridge)}`),
    ),
    set(
      'set isolated',
      'ifname . ifname',
      isolated.map(({ bridge }) => `"${bridge}" . "${bridge}"`),
    ),
    set('set host_ports', 'ifname . inet_proto . inet_service', networks.flatMap(hostPorts)),
    set('set guests', 'ipv4_addr', guests),
    set('set routed', 'ipv4_addr . inet_proto . inet_service', networks.flatMap(routedPorts)),
    set('set translated', 'ipv4_addr; flags interval', translated),
    set('set subnets', 'ipv4_addr; flags interval', subnets),
    ...sets6(networks),
    set('set resolvers', 'ifname . ipv4_addr', networks.flatMap(cloudResolvers)),
  ];
}

function hostPorts({ record: { bridge, hostPorts: ports = [] } }: NetworkInUse): readonly string[] {
  const all = ports.flatMap((text) => parseHostPorts(text) ?? []);
  return all.map(({ protocol, port }) => `"${bridge}" . ${protocol} . ${port}`);
}

/** Published ports where guests have addresses that are routed to them. */
function routedPorts({ record, claims }: NetworkInUse): readonly string[] {
  if (record.nat !== false) return [];
  return claims.flatMap((claim) =>
    claim.ports.flatMap((port) =>
      protocolsOf(port).map((protocol) => `${claim.ip} . ${protocol} . ${port.guestPort}`),
    ),
  );
}

/** The maps that ports are published with, at one address and at each, of either family. */
export const publishedMaps = [
  'published',
  'published_everywhere',
  'published6',
  'published_everywhere6',
] as const;

function maps(networks: readonly NetworkInUse[]): string[] {
  const mappings = mappingsOf(networks);
  const target = 'inet_proto . inet_service : ipv4_addr . inet_service';
  const element = ({ claim, port, protocol }: (typeof mappings)[number]): string =>
    `${protocol} . ${port.hostPort} : ${claim.ip} . ${port.guestPort}`;
  return [
    set(
      'map published',
      `ipv4_addr . ${target}`,
      mappings
        .filter(({ port: { hostIp } }) => hostIp !== '' && !hostIp.includes(':'))
        .map((mapping) => `${mapping.port.hostIp} . ${element(mapping)}`),
    ),
    set(
      'map published_everywhere',
      target,
      mappings.filter(({ port }) => port.hostIp === '').map(element),
    ),
    ...maps6(networks),
  ];
}

// Replies to ::1 come back from some bridges only: a client of a port at every address is refused there at once, and tries 127.0.0.1.
const translate = `    dnat ip to ip daddr . meta l4proto . th dport map @published
    fib daddr type local dnat ip to meta l4proto . th dport map @published_everywhere
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6
    ip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @published_everywhere6`;

const chains: readonly string[] = [
  // Before connection tracking, where addresses are still as received. Packets of a guest arrive through the bridge, but
  // frames to 01:80:c2:00:00:0X arrive from the tap itself and bypass bridge rules. 127.0.0.0/8 never comes from a link:
  // route_localnet would let guests reach the host's loopback there, and ports published on it are translated before
  // the kernel checks whether such an address may come from a neighbour.
  `  chain guard {
    type filter hook prerouting priority raw; policy accept;
    iifname "${tapPrefix}*" iifname != @bridges drop
    iifname != "lo" ip daddr 127.0.0.0/8 drop
  }`,
  `  chain arriving {
    type nat hook prerouting priority dstnat; policy accept;
    ip saddr @guests meta l4proto { tcp, udp } th dport 53 dnat ip to iifname . ip daddr map @resolver
    ip6 saddr @guests6 meta l4proto { tcp, udp } th dport 53 dnat ip6 to iifname . ip6 daddr map @resolver6
${translate}
  }`,
  // Packets that the host itself sends do not pass prerouting.
  `  chain local {
    type nat hook output priority -100; policy accept;
${translate}
  }`,
  // Over lo the host reaches its own address in a network. The last two: a guest can't reply to 127.0.0.1, and replies to
  // a neighbour directly, past the host that translated the address.
  `  chain leaving {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @translated oifname != @bridges oifname != "lo" masquerade
    oifname @bridges ct status dnat ip saddr 127.0.0.0/8 masquerade
    oifname @bridges ct status dnat ip saddr @subnets masquerade
    ip6 saddr @translated6 oifname != @bridges oifname != "lo" masquerade
    oifname @bridges ct status dnat ip6 saddr ::1 masquerade
    oifname @bridges ct status dnat ip6 saddr @subnets6 masquerade
  }`,
  // Some addresses are the host's cloud metadata and, in some clouds, its name server. Bridged frames come through
  // here, too, where br_netfilter is on. A packet routed to an address without a guest would make the host look for it,
  // and all links of the host share one table of neighbours; broadcasts are not routed, nor what is for a link-local address.
  // Guests of another agent on the bridge are in its table alone: what was translated, or bridged, is for one that there is.
  `  chain passing {
    type filter hook forward priority filter; policy accept;
    iifname . oifname @same iifname . oifname != @isolated ip6 daddr fe80::/10 accept
    iifname . ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
    iifname @bridges ip daddr { ${metadata4.join(', ')} } drop
    iifname @bridges ip6 daddr { ${metadata6.join(', ')} } drop
    oifname @bridges ct state established,related accept
    oifname @bridges ct status dnat accept
    meta pkttype host oifname @owned ip daddr != @guests jump absent
    meta pkttype host oifname @owned ip6 daddr != @guests6 jump absent
    oifname @bridges ip daddr . meta l4proto . th dport @routed accept
    oifname @bridges ip6 daddr . meta l4proto . th dport @routed6 accept
    iifname . oifname @isolated reject with icmpx admin-prohibited
    iifname . oifname @same accept
    oifname @owned reject with icmpx admin-prohibited
  }`,
  `  chain absent {
    iifname . oifname @same oifname . ether daddr != @gateways return
    reject with icmpx host-unreachable
  }`,
  `  chain asked {
    update @questions { ip saddr limit rate over ${questions.rate}/second burst ${questions.burst} packets } drop
    accept
  }
  chain asked6 {
    update @questions6 { ip6 saddr limit rate over ${questions.rate}/second burst ${questions.burst} packets } drop
    accept
  }`,
  // Guests must not reach the agent's API, ssh and other services of the host; of name servers only those that they were
  // given, by the address that they ask: another agent on the bridge leads its guests' questions to a port of its own.
  `  chain host {
    type filter hook input priority filter; policy accept;
    ct status dnat meta l4proto { tcp, udp } iifname . ip daddr . th dport @resolver_ports goto asked
    ct status dnat meta l4proto { tcp, udp } iifname . ip6 daddr . th dport @resolver_ports6 goto asked6
    iifname != @closed accept
    ct state established,related accept
    udp dport 67 accept
    ip6 daddr ff02::1:2 udp dport 547 accept
    meta l4proto { tcp, udp } ct original proto-dst 53 iifname . ct original ip daddr @host_resolvers accept
    meta l4proto { tcp, udp } ct original proto-dst 53 iifname . ct original ip6 daddr @host_resolvers6 accept
    icmp type echo-request accept
    icmpv6 type { echo-request, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept
    iifname . meta l4proto . th dport @host_ports accept
    reject with icmpx admin-prohibited
  }`,
];
