import { type GroupNic, portsInGroup } from '../model/group.ts';
import { isMetadata, metadata4 } from '../rules/metadata.ts';
import { set } from '../rules/nft-text.ts';
import { formatTracking, trackingTable } from '../rules/tracking.ts';
import { type Rules6, rules6 } from './group-rules6.ts';

const protocols = ['tcp', 'udp'] as const;

/** The nftables tables of one NIC in an allocation's namespace; each NIC there has its own. */
export function groupTables({ tap }: Pick<GroupNic, 'tap'>): readonly string[] {
  return [`netdev ${tap}`, `inet ${tap}`, `inet ${trackingTable(tap)}`];
}

/** The script that removes them, and succeeds when there are none. */
export function formatGroupRemoval(nic: Pick<GroupNic, 'tap'>): string {
  return groupTables(nic).map(removal).join('');
}

/** The script that makes or replaces them, in one transaction: no packet meets neither or half of a table. */
export function formatGroupRules(nic: GroupNic, maxConnections: number): string {
  const [frames = '', packets = ''] = groupTables(nic);
  const { tap, mac, guest, six } = nic;
  const claim = { ip: guest, mac, ...(six && { ip6: six.guest }) };
  const network = { record: { bridge: tap }, claims: [claim] };
  const own6 = rules6(nic);
  const published = set('map published', 'inet_proto . inet_service : ipv4_addr . inet_service', [
    ...new Set(portsInGroup(nic).flatMap((port) => elements(port, guest))),
  ]);
  return [
    removal(frames),
    removal(packets),
    `table ${frames} {\n${own6.frames}${arriving(nic, own6)}\n}\n`,
    `table ${packets} {\n${own6.packets}${[published, ...chains(nic, own6)].join('\n')}\n}\n`,
    formatTracking(tap, [network], maxConnections),
  ].join('');
}

/** Adding first makes the deletion succeed when there was no table. */
function removal(table: string): string {
  return `add table ${table}\ndelete table ${table}\n`;
}

/** The host's number of a port was translated before. */
function elements(
  { port, guestPort }: ReturnType<typeof portsInGroup>[number],
  guest: string,
): readonly string[] {
  return protocols.map((protocol) => `${protocol} . ${port} : ${guest} . ${guestPort}`);
}

/**
 * What may come from the guest: IPv4 and ARP from its own MAC and IP address, and requests for an address by DHCP. Before
 * it has its address it probes with ARP whether another has it (RFC 5227, 2.1.1). IPv6 where the namespace has it.
 */
function arriving({ tap, mac, guest }: GroupNic, six: Rules6): string {
  return `  chain arriving {
    type filter hook ingress device "${tap}" priority filter; policy drop;
    ether saddr != ${mac} drop
    ether type arp arp saddr ether ${mac} arp saddr ip ${guest} accept
    ether type arp arp saddr ether ${mac} arp operation request arp saddr ip 0.0.0.0 arp daddr ip ${guest} accept
    ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 limit rate 20/second burst 40 packets accept
    ether type ip ip saddr ${guest} ip daddr != 127.0.0.0/8 accept
${six.arriving}  }`;
}

const translate = 'fib daddr type local dnat ip to meta l4proto . th dport map @published';

function chains({ tap, gateway, guest, nameservers }: GroupNic, six: Rules6): readonly string[] {
  const resolvers = nameservers.filter(isMetadata);
  const from = `iifname "${tap}"`;
  const to = `oifname "${tap}"`;
  return [
    // At any address of the namespace: the allocation's, those of other guests' pairs, and 127.0.0.1, which a proxy in
    // the group uses for the task it is the proxy of.
    `  chain arriving {
    type nat hook prerouting priority dstnat; policy accept;
    ${translate}
${six.translate}  }`,
    // What other tasks listen at is reached at the gateway address, also when they listen at 127.0.0.1 only, as proxies
    // do for their upstreams: these tasks share it already. After the ports of all guests, each with a table like this.
    `  chain neighbours {
    type nat hook prerouting priority -90; policy accept;
    ${from} ip daddr ${gateway} meta l4proto { tcp, udp } th dport != 67 dnat ip to 127.0.0.1
  }`,
    // Packets that the other tasks send do not pass prerouting.
    `  chain local {
    type nat hook output priority -100; policy accept;
    ${translate}
${six.translate}  }`,
    // The pair of addresses has no meaning outside of the namespace. A guest can't reply to 127.0.0.1, and not to itself.
    `  chain leaving {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${guest} oifname != { "${tap}", "lo" } masquerade
    ${to} ct status dnat ip saddr { 127.0.0.0/8, ${guest} } masquerade
${six.leaving}  }`,
    // The host's cloud metadata and, in some clouds, its name server.
    `  chain passing {
    type filter hook forward priority filter; policy accept;
${resolvers.map((server) => `    ${from} ip daddr ${server} meta l4proto { tcp, udp } th dport 53 accept\n`).join('')}\
    ${from} ip daddr { ${metadata4.join(', ')} } drop
${six.passing}    ${to} ct state established,related accept
    ${to} ct status dnat accept
    ${to} reject with icmpx admin-prohibited
  }`,
  ];
}
