import { formatIpv6, linkLocalOf, parseIpv6 } from '#spec';
import { type GroupNic, portsInGroup } from '../model/group.ts';
import { tapMac } from '../model/names.ts';
import { guestAddresses6, hex, neighbourRules, sixChains } from '../rules/anti-spoofing6.ts';
import { metadata6 } from '../rules/metadata.ts';
import { set } from '../rules/nft-text.ts';

const linkLocalPrefix = 0xfe80n << 112n;
/** The guest's two, and those that it chose. */
const noting = 'ifname . ipv6_addr; size 8; flags dynamic,timeout';

/** What a NIC's tables contain for IPv6, as whole lines: nothing in a namespace without it. */
export interface Rules6 {
  /** Sets and chains of frames that come from the guest. */
  readonly frames: string;
  /** Sets and chains of packets. */
  readonly packets: string;
  /** Of the chains that IPv4 has as well. */
  readonly arriving: string;
  readonly translate: string;
  readonly leaving: string;
  readonly passing: string;
}

const none: Rules6 = {
  frames: '',
  packets: '',
  arriving: '',
  translate: '',
  leaving: '',
  passing: '',
};

export function rules6(nic: GroupNic): Rules6 {
  if (nic.six === undefined) return none;
  const { tap, mac, six, nameservers } = nic;
  const { guest } = six;
  const own = [{ ...nic, ip6: guest }];
  const router = linkLocalOf(tapMac(mac));
  const from = `iifname "${tap}"`;
  const to = `oifname "${tap}"`;
  const servers = nameservers.filter((server) => parseIpv6(server) !== undefined);
  return {
    frames: lines([
      set(`set ${ownAddresses}`, noting, guestAddresses6(own)),
      newcomers(router),
      ...sixChains,
      neighbourRules(own, [
        `@th,64,128 0x${hex(router)} drop`,
        `@th,64,64 0x${hex(linkLocalPrefix).slice(0, 16)} return`,
      ]),
    ]),
    packets: lines([published(nic, guest), queries(tap, linkLocalOf(mac), guest)]),
    arriving: lines(['    ether type ip6 goto six']),
    // What is sent to ::1 neither leaves the namespace nor comes into it (IPv6 has no route_localnet): a sibling that asks
    // there is refused at once, and tries 127.0.0.1. Nor is anything sent on from a link-local address.
    translate: lines([
      '    ip6 daddr != ::1 ip6 daddr != fe80::/10 fib daddr type local dnat ip6 to meta l4proto . th dport map @published6',
    ]),
    leaving: lines([
      `    ip6 saddr ${guest} oifname != { "${tap}", "lo" } masquerade`,
      `    ${to} ct status dnat ip6 saddr ${guest} masquerade`,
    ]),
    passing: lines([
      ...servers.map(
        (server) => `    ${from} ip6 daddr ${server} meta l4proto { tcp, udp } th dport 53 accept`,
      ),
      `    ${from} ip6 daddr { ${metadata6.join(', ')} } drop`,
    ]),
  };
}

function published(nic: GroupNic, guest: string): string {
  const elements = portsInGroup(nic).flatMap(({ port, guestPort }) =>
    ['tcp', 'udp'].map((protocol) => `${protocol} . ${port} : ${guest} . ${guestPort}`),
  );
  const type = 'inet_proto . inet_service : ipv6_addr . inet_service';
  return set('map published6', type, [...new Set(elements)]);
}

/** The set of the addresses that the guest may send from. */
export const ownAddresses = 'addresses6';

/**
 * Many systems choose a random link-local address (RFC 7217). On this link is no other guest, so each but the namespace's
 * own may be the guest's: the kernel notes those that it finds its router with, few at a time, as each is a neighbour
 * that the namespace may look for.
 */
function newcomers(router: bigint): string {
  return `  chain newcomers {
    ip6 saddr ${formatIpv6(router)} drop
    ip6 nexthdr hopopt icmpv6 type { 131, 132, 143 } goto learn
    ip6 nexthdr ipv6-icmp icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } goto learn
    ip6 daddr ff02::1:2 ip6 nexthdr udp udp sport 546 udp dport 547 goto learn
    drop
  }
  chain learn {
    update @${ownAddresses} { iifname . ip6 saddr timeout 10m } return
    drop
  }`;
}

/**
 * Queries for the responders get the guest's other address as sender. Node gives the sender with the name of its link, for
 * which it asks in the plugin's own namespace; there is none, and it fails. The rules bind both addresses to this tap.
 * Before connection tracking, which computes the checksum of the whole packet: the kernel does not keep that right.
 *
 * From a link-local address that was noted nothing else comes than neighbour discovery and reports of groups: no guest
 * needs more, and it would be a way past what is bound to the guest's other addresses.
 */
function queries(tap: string, linkLocal: bigint, guest: string): string {
  const from = `iifname "${tap}" ip6 saddr fe80::/10`;
  const noted = `${from} ip6 saddr != ${formatIpv6(linkLocal)}`;
  return `  chain queries6 {
    type filter hook prerouting priority raw; policy accept;
    ${from} ip6 daddr ff02::1:2 udp dport 547 ip6 saddr set ${guest}
    ${from} icmpv6 type nd-router-solicit ip6 saddr set ${guest}
    ${noted} meta l4proto != ipv6-icmp drop
    ${noted} icmpv6 type != { 131, 132, nd-neighbor-solicit, nd-neighbor-advert, 143 } drop
  }`;
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join('');
}
