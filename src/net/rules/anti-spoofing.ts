import type { Claim, NetworkInUse } from '../store/claim.ts';
import { set } from './nft-text.ts';

/**
 * The table on the frames that come out of our taps, for managed networks: a guest speaks with the MAC and IP address
 * it was given and with no other, is no DHCP server and asks one for itself only, and speaks IPv4 only, since that is
 * all its network has. Everything else that comes by these bridges or others is left alone.
 */
export function formatAntiSpoofing(table: string, networks: readonly NetworkInUse[]): string {
  const claims = networks.flatMap((network) => network.claims);
  // On somebody else's bridge a guest may have got its address from his DHCP server instead.
  const ours = networks.flatMap(({ record, claims: inIt }) => (record.owned ? inIt : []));
  // A guest with two NICs in one network answers for either address on either of them, as Linux does.
  const addresses = ours.flatMap(({ tap, vm }) =>
    ours.filter((other) => other.vm === vm).map(({ ip }) => `"${tap}" . ${ip}`),
  );
  const pairs = (text: (claim: Claim) => string): string[] =>
    ours.map((claim) => `"${claim.tap}" . ${text(claim)}`);
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
      'set same',
      'ifname . ifname',
      claims.map(({ tap }) => `"${tap}" . "${tap}"`),
    ),
    ...chains,
    questions(ours),
  ];
  return `table bridge ${table} {\n${parts.join('\n')}\n}\n`;
}

/**
 * What a guest asks a DHCP server: a few questions at a time, so that all are heard, and with its own MAC address in
 * the question (chaddr, 28 bytes into it), to which the answer is given whoever sent it. An older nft has no sets of
 * bytes at an offset, hence a rule for each tap.
 */
function questions(claims: readonly Claim[]): string {
  const others = claims.map(
    ({ tap, mac }) => `    iifname "${tap}" @th,288,48 != 0x${mac.replaceAll(':', '')} drop\n`,
  );
  return `  set askers {
    type ifname; size 65535; flags dynamic
  }
  chain questions {
    update @askers { iifname limit rate over 20/second burst 40 packets } drop
${others.join('')}  }`;
}

const chains: readonly string[] = [
  `  chain arriving {
    type filter hook prerouting priority filter; policy accept;
    iifname @taps goto guest
  }`,
  // 0.0.0.0 is what a guest has while it asks for its address, and what it asks with whether that address is free: who
  // asks so for another's would keep that one from taking it (RFC 5227, 2.1.1).
  `  chain guest {
    iifname . ether saddr != @macs drop
    ether type arp iifname . arp saddr ether != @macs drop
    ether type arp iifname . arp saddr ip @addresses accept
    ether type arp arp operation request arp saddr ip 0.0.0.0 iifname . arp daddr ip @addresses accept
    ether type ip udp sport 67 drop
    ether type ip udp dport 68 drop
    ether type ip udp dport 67 jump questions
    ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
    ether type ip iifname . ip saddr @addresses accept
    drop
  }`,
  // Ports are in hairpin mode, for a guest that asks for its own published port; it need not hear its own broadcasts.
  `  chain passing {
    type filter hook forward priority filter; policy accept;
    iifname . oifname @same meta pkttype { broadcast, multicast } drop
  }`,
];
