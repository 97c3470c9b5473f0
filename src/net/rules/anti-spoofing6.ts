import { formatIpv6, linkLocalOf, parseIpv6 } from '#spec';
import { bridgeMac } from '../model/names.ts';
import { type Claim, linkLocalsOf, type NetworkInUse } from '../store/claim.ts';
import { maxDynamic, rateSet } from './nft-text.ts';

/** A guest's NIC, and whose it is. */
type Owner = Pick<Claim, 'vm' | 'tap' | 'mac' | 'ip6' | 'linkLocals'>;

/**
 * The addresses that may be a tap's, as elements `"tap" . address`: its own, and its link-local ones; those of the VM's
 * other NICs in the network as well, which Linux answers for on all of them.
 */
export function guestAddresses6(claims: readonly Owner[]): readonly string[] {
  return claims.flatMap((claim) =>
    ownAddresses(claim, claims).map((address) => `"${claim.tap}" . ${formatIpv6(address)}`),
  );
}

function ownAddresses(claim: Owner, claims: readonly Owner[]): readonly bigint[] {
  const own = claims.filter(({ vm, ip6 }) => vm === claim.vm && ip6 !== undefined);
  return claim.ip6 === undefined ? [] : own.flatMap(addressesOf);
}

/** The IPv6 address of a NIC, and its link-local ones. */
function addressesOf(claim: Owner): readonly bigint[] {
  const address = parseIpv6(claim.ip6 ?? '');
  return address === undefined ? [] : [address, ...linkLocalsOf(claim)];
}

/** The set of what guests ask with that is none of their addresses yet. */
export const strangers = 'strangers';
/** The set of what guests ask with that is the address of another. */
export const contested = 'contested';

/** The link-local addresses that have an owner: those of the guests, and those of the bridges. */
export function ownedLinkLocals(networks: readonly NetworkInUse[]): readonly string[] {
  const owned = networks.flatMap(({ record, claims }) => [
    linkLocalOf(bridgeMac(record.bridge)),
    ...claims.flatMap(linkLocalsOf),
  ]);
  return [...new Set(owned)].map(formatIpv6);
}

/**
 * What a guest may send as IPv6. Link-local addresses are those made from its MAC address and those that were admitted; see
 * `newcomerRules`. Extension headers are refused (but for hop-by-hop options before a report of multicast groups, which must
 * have them, and fragments): they serve to hide what follows from filters. Neighbour discovery and DHCPv6 are refused in
 * fragments, which the receiver puts together after these rules (RFC 6980).
 *
 * nft finds the transport header behind extension headers, and a rule whose bytes are not in the packet does not match.
 */
export const sixChains: readonly string[] = [
  rateSet('talkers', 'ifname'),
  // 143, 131 and 132 are reports of multicast groups. Redirects, router advertisements and queries of a router are not
  // among what is accepted.
  `  chain six {
    ip6 saddr :: icmpv6 type nd-neighbor-solicit goto probes
    iifname . ip6 saddr != @addresses6 ip6 saddr fe80::/64 jump newcomers
    iifname . ip6 saddr != @addresses6 ip6 saddr != :: drop
    ip6 nexthdr hopopt icmpv6 type { 131, 132, 143 } goto talk
    ip6 nexthdr { hopopt, ipv6-route, ipv6-opts, ah, 135, 139, 140 } drop
    ip6 saddr :: icmpv6 type nd-router-solicit goto queries6
    iifname . ip6 saddr != @addresses6 drop
    exthdr frag exists jump fragments
    icmpv6 type nd-neighbor-solicit goto questions6
    icmpv6 type nd-neighbor-advert goto answers6
    icmpv6 type nd-router-solicit goto queries6
    icmpv6 type { 130, 131, 132, 134, 137, 141, 142, 143, 151, 152, 153 } drop
    meta l4proto udp exthdr frag missing jump datagrams6
    accept
  }`,
  // The first fragment has all headers (RFC 7112), and what its receiver does with it is decided by them.
  `  chain fragments {
    frag nexthdr { hopopt, ipv6-route, ipv6-frag, ipv6-opts, ah, 135, 139, 140 } drop
    frag frag-off != 0 accept
    frag nexthdr ipv6-icmp icmpv6 type { 1, 2, 3, 4, 128, 129 } accept
    frag nexthdr udp jump datagrams6
    frag nexthdr tcp tcp dport >= 0 accept
    frag nexthdr { udp, tcp, ipv6-icmp } drop
    accept
  }`,
  `  chain datagrams6 {
    udp sport 547 drop
    udp dport 546 drop
    udp dport 547 exthdr frag exists drop
    udp dport 547 goto queries6
    udp dport != 547 accept
    drop
  }`,
  // What the driver answers, so that no query of another guest is lost.
  rateSet('askers6', 'ifname'),
  `  chain queries6 {
    update @askers6 { iifname limit rate over 20/second burst 40 packets } drop
    accept
  }`,
  // At a limited rate: each of them is for the host, or for all guests.
  `  chain talk {
    update @talkers { iifname limit rate over 100/second burst 200 packets } drop
    accept
  }`,
];

/**
 * Many systems choose a random link-local address (RFC 7217). With one that no other has, a guest may ask for the router and
 * for its address, and the host alone sees it (chain `passing`): the driver finds in `strangers` which tap an address came
 * from, and admits it. The rate is of addresses that a guest tries, each of which the host may keep as a neighbour. A MAC
 * address in the question is its own.
 */
export function newcomerRules(claims: readonly Claim[]): string {
  const taps = claims.filter(({ ip6 }) => ip6 !== undefined);
  const withMac = taps.map(
    ({ tap, mac }) =>
      `iifname "${tap}" ip6 nexthdr ipv6-icmp icmpv6 type nd-router-solicit ip6 length 16 @th,64,64 0x0101${mac.replaceAll(':', '')} goto strangers`,
  );
  return `  set ${strangers} {
    type ifname . ipv6_addr; size ${maxDynamic}; flags dynamic,timeout; timeout 1m
  }
  set ${contested} {
    type ifname . ipv6_addr; size ${maxDynamic}; flags dynamic,timeout; timeout 1h
  }
${rateSet('trying', 'ifname')}
  chain newcomers {
    ip6 nexthdr ipv6-icmp icmpv6 type nd-router-solicit ip6 length 8 goto strangers
    jump own_solicits
    ip6 daddr ff02::1:2 ip6 nexthdr udp udp sport 546 udp dport 547 goto strangers
    drop
  }
  chain own_solicits {
${lines(withMac)}    return
  }
  chain strangers {
    ip6 saddr @link_locals update @${contested} { iifname . ip6 saddr } drop
    ip6 saddr @link_locals drop
    update @trying { iifname limit rate over 6/minute burst 6 packets } drop
    update @${strangers} { iifname . ip6 saddr } accept
    drop
  }`;
}

/** A question with such an address: the tap that it came from, in what nft lists of a set. */
export interface Asked {
  readonly tap: string;
  readonly address: bigint;
}

export function askedIn(listed: string): readonly Asked[] {
  const elements = listed.matchAll(/"(\S+)" \. ([0-9a-f:]+)/g);
  return [...elements].flatMap(([, tap = '', text = '']) => {
    const address = parseIpv6(text);
    return address === undefined ? [] : [{ tap, address }];
  });
}

/**
 * Neighbour discovery: a guest answers for its own addresses, probes whether its own are free, and asks for others with
 * an own address as sender. An option with a MAC address has its own. Older versions of nft have no sets of bytes at an
 * offset, hence rules for each tap. The target is at byte 8, the first option at byte 24; 14 is the number that a host
 * knows its own probe by (RFC 7527). `more` are rules about further targets.
 */
export function neighbourRules(claims: readonly Owner[], more: readonly string[] = []): string {
  const taps = claims.filter(({ ip6 }) => ip6 !== undefined);
  const targets = taps.flatMap((claim) =>
    ownAddresses(claim, claims).map(
      (each) => `iifname "${claim.tap}" @th,64,128 0x${hex(each)} return`,
    ),
  );
  const withMac = (option: string): string =>
    lines(
      taps.map(
        ({ tap, mac }) =>
          `iifname "${tap}" ip6 length 32 @th,192,64 0x${option}${mac.replaceAll(':', '')} goto talk`,
      ),
    );
  return `  chain targets {
${lines([...targets, ...more])}    drop
  }
  chain probes {
    ip6 nexthdr != ipv6-icmp drop
    jump targets
    ip6 length 24 goto talk
    ip6 length 32 @th,192,8 14 goto talk
    drop
  }
  chain questions6 {
    ip6 nexthdr != ipv6-icmp drop
    ip6 length 24 goto talk
    goto own_questions6
  }
  chain own_questions6 {
${withMac('0101')}    drop
  }
  chain answers6 {
    ip6 nexthdr != ipv6-icmp drop
    jump targets
    ip6 length 24 goto talk
    goto own_answers6
  }
  chain own_answers6 {
${withMac('0201')}    drop
  }`;
}

/** An address as nft reads bytes at an offset. */
export function hex(address: bigint): string {
  return address.toString(16).padStart(32, '0');
}

function lines(rules: readonly string[]): string {
  return rules.map((rule) => `    ${rule}\n`).join('');
}
