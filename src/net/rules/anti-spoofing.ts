import { tapPrefix } from '../model/names.ts';
import type { Claim, NetworkInUse } from '../store/claim.ts';
import {
  guestAddresses6,
  neighbourRules,
  newcomerRules,
  ownedLinkLocals,
  sixChains,
} from './anti-spoofing6.ts';
import { rateSet, set } from './nft-text.ts';

/**
 * The table that filters frames from our taps in managed networks: a guest sends from its own MAC and IP address only,
 * does not act as a DHCP server, queries one for itself only, and sends IPv4 and ARP only, and IPv6 where its network has
 * that. All other frames on these bridges and others pass.
 */
export function formatAntiSpoofing(table: string, networks: readonly NetworkInUse[]): string {
  const claims = networks.flatMap((network) => network.claims);
  // On a foreign bridge a guest may have its address from another DHCP server.
  const ours = networks.flatMap(({ record, claims: inIt }) => (record.owned ? inIt : []));
  // A guest with two NICs in one network answers ARP for both addresses on both of them, as Linux does.
  const addresses = ours.flatMap(({ tap, vm }) =>
    ours.filter((other) => other.vm === vm).map(({ ip }) => `"${tap}" . ${ip}`),
  );
  const pairs = (text: (claim: Claim) => string): string[] =>
    ours.map((claim) => `"${claim.tap}" . ${text(claim)}`);
  const isolated = networks.flatMap(({ record, claims: inIt }) => (record.isolate ? inIt : []));
  const parts = [
    set(
      'set taps',
      'ifname',
      ours.map(({ tap }) => `"${tap}"`),
    ),
    set(
      'set macs',
      'ifname . ether_addr',
      pairs(({ mac }) => mac),
    ),
    set('set addresses', 'ifname . ipv4_addr', addresses),
    set(
      'set taps6',
      'ifname',
      ours.filter(({ ip6 }) => ip6 !== undefined).map(({ tap }) => `"${tap}"`),
    ),
    set('set addresses6', 'ifname . ipv6_addr', guestAddresses6(ours)),
    set('set link_locals', 'ipv6_addr', ownedLinkLocals(networks)),
    set(
      'set same',
      'ifname . ifname',
      claims.map(({ tap }) => `"${tap}" . "${tap}"`),
    ),
    set(
      'set isolated',
      'ifname',
      isolated.map(({ tap }) => `"${tap}"`),
    ),
    set(
      'set isolated_macs',
      'ether_addr',
      isolated.map(({ mac }) => mac),
    ),
    set(
      'set isolated_guests',
      'ifname . ether_addr',
      isolated.map(({ tap, mac }) => `"${tap}" . ${mac}`),
    ),
    ...chains,
    queries(ours),
    newcomerRules(ours),
    ...sixChains,
    neighbourRules(ours),
  ];
  return `table bridge ${table} {\n${parts.join('\n')}\n}\n`;
}

/**
 * A guest's DHCP queries: at a limited rate, so that none of another guest is lost, and with its own MAC address as
 * chaddr (at byte 28), which decides about the reply, whatever the frame's sender. Never in fragments, which the host
 * puts together after these rules. Older versions of nft have no sets of bytes at an offset, hence a rule for each tap, at
 * the beginning of a chain (see `changesOf`).
 */
function queries(claims: readonly Claim[]): string {
  const own = claims.map(
    ({ tap, mac }) => `    iifname "${tap}" @th,288,48 0x${mac.replaceAll(':', '')} return\n`,
  );
  return `${rateSet('askers', 'ifname')}
  chain queries {
    ip frag-off & 0x3fff != 0 drop
    update @askers { iifname limit rate over 20/second burst 40 packets } drop
    goto own_queries
  }
  chain own_queries {
${own.join('')}    drop
  }`;
}

// A rule whose bytes are not in the packet does not match: what these chains accept or return is what a rule has read.
const chains: readonly string[] = [
  `  chain arriving {
    type filter hook prerouting priority filter; policy accept;
    iifname @isolated ether daddr @isolated_macs drop
    iifname @taps goto guest
  }`,
  // 0.0.0.0 is a guest's address until DHCP gives it one, and the sender in its ARP probe whether that one is free. A
  // probe for another guest's address would keep that guest from taking it (RFC 5227, 2.1.1). Later fragments have no
  // ports; the first one has them or is no UDP for any receiver.
  `  chain guest {
    iifname . ether saddr != @macs drop
    ether type arp iifname . arp saddr ether @macs jump questions
    ether type ip ip protocol udp ip frag-off & 0x1fff == 0 jump datagrams
    ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
    ether type ip iifname . ip saddr @addresses accept
    ether type ip6 iifname @taps6 jump six
    drop
  }`,
  `  chain questions {
    iifname . arp saddr ip @addresses accept
    arp operation request arp saddr ip 0.0.0.0 iifname . arp daddr ip @addresses accept
  }`,
  `  chain datagrams {
    udp sport 67 drop
    udp dport 68 drop
    udp dport 67 goto queries
    udp dport != 67 return
    drop
  }`,
  // Ports are in hairpin mode, for a guest that connects to its own published port. Its broadcasts must not come back.
  // Isolated guests get nothing from each other but what they sent to the host's MAC address: with br_netfilter the kernel
  // translates a connection to a published port here and bridges it on, instead of routing it. This is why their ports do
  // not have the bridge's own flag for it (BR_ISOLATED). Other taps are those of another agent on the bridge.
  `  chain passing {
    type filter hook forward priority filter; policy accept;
    iifname . oifname @same meta pkttype { broadcast, multicast } drop
    iifname @taps6 ip6 saddr fe80::/10 iifname . ip6 saddr != @addresses6 drop
    iifname @isolated oifname @isolated oifname . ether daddr != @isolated_guests drop
    iifname @isolated oifname "${tapPrefix}*" oifname != @isolated drop
    oifname @isolated iifname "${tapPrefix}*" iifname != @isolated drop
  }`,
];
