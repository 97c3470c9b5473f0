import { formatIpv6, linkLocalOf, parseIpv6 } from '#spec';
import { type GroupNic, portsInGroup } from '../model/group.ts';
import { guestAddresses6, neighbourRules, sixChains } from '../rules/anti-spoofing6.ts';
import { set } from '../rules/nft-text.ts';
import { metadata6 } from '../rules/ruleset6.ts';

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
  const from = `iifname "${tap}"`;
  const to = `oifname "${tap}"`;
  const servers = nameservers.filter((server) => parseIpv6(server) !== undefined);
  return {
    frames: lines([
      set('set addresses6', 'ifname . ipv6_addr', guestAddresses6(own)),
      // No link-local address but that of its MAC address.
      '  chain newcomers {\n    drop\n  }',
      ...sixChains,
      neighbourRules(own),
    ]),
    packets: lines([published(nic, guest), queries(from, formatIpv6(linkLocalOf(mac)), guest)]),
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

/**
 * Queries for the responders get the guest's other address as sender. Node gives the sender with the name of its link, for
 * which it asks in the plugin's own namespace; there is none, and it fails. The rules bind both addresses to this tap.
 * Before connection tracking, which computes the checksum of the whole packet: the kernel does not keep that right.
 */
function queries(from: string, linkLocal: string, guest: string): string {
  return `  chain queries6 {
    type filter hook prerouting priority raw; policy accept;
    ${from} ip6 saddr ${linkLocal} ip6 daddr ff02::1:2 udp dport 547 ip6 saddr set ${guest}
    ${from} ip6 saddr ${linkLocal} icmpv6 type nd-router-solicit ip6 saddr set ${guest}
  }`;
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join('');
}
