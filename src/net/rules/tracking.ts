import { formatIpv6 } from '#spec';
import { linkLocalsOf } from '../store/claim.ts';
import { maxDynamic, rateSet } from './nft-text.ts';

/** The table that bounds how many connections each guest makes the kernel track. */
export const trackingTable = (table: string): string => `${table}_tracked`;

export function isTrackingTable(table: string): boolean {
  return table.endsWith(trackingTable(''));
}

// Limits new neighbours on the host's links that a guest makes the host look for. The kernel keeps at most 1024 for all
// links (gc_thresh3), those that do not answer for a few seconds.
const neighbours = { rate: 20, burst: 200 };
// A closed connection no longer counts (nf_conncount), but is tracked for this long instead of the default 120 s.
const closedSeconds = 10;

/** A link that guests' packets come from, and the addresses of these guests. */
interface TrackedNetwork {
  readonly record: { readonly bridge: string };
  readonly claims: readonly {
    readonly ip: string;
    readonly ip6?: string;
    readonly mac?: string;
    readonly linkLocals?: readonly string[];
  }[];
}

/**
 * The nftables script that limits what each guest makes the kernel track: the host has one table of connections for
 * all, and an entry that saw a handshake stays for five days and is never evicted. What a guest opens is counted by its MAC
 * address, whatever address it is from; what is opened to it for each family, as nothing of such a packet is common to both.
 * A table of its own that is modified and never replaced: its counts must survive a change of the rules. A new maximum
 * starts new counts.
 */
export function formatTracking(
  table: string,
  networks: readonly TrackedNetwork[],
  maxConnections: number,
): string {
  const own = `inet ${trackingTable(table)}`;
  if (networks.length === 0) return `add table ${own}\ndelete table ${own}\n`;
  const bridges = networks.map(({ record }) => `"${record.bridge}"`);
  const claims = networks.flatMap((network) => network.claims);
  const guests = claims.map(({ ip }) => ip);
  const guests6 = [...new Set(claims.flatMap(addresses6))];
  const macs = [...new Set(claims.flatMap(({ mac }) => mac ?? []))];
  return `table ${own} {
  ct timeout brief {
    protocol tcp
    l3proto ip
    policy = { syn_recv : ${closedSeconds}, time_wait : ${closedSeconds} }
  }
  set bridges {
    type ifname
  }
  set macs {
    type ether_addr
  }
${counters('own', 'ether_addr', `_${maxConnections}`)}
${families.map((family) => sets(family, maxConnections)).join('\n')}
  chain own { }
  chain leaving { }
  chain entering { }
  chain finding { }
  chain passing {
    type filter hook forward priority -1; policy accept;
  }
  chain host {
    type filter hook input priority -1; policy accept;
  }
}
flush table ${own}
${refill(`${own} bridges`, bridges)}${refill(`${own} macs`, macs)}${refill(`${own} guests`, guests)}${refill(`${own} guests6`, guests6)}table ${own} {
${rules(maxConnections)}
}
`;
}

/** Its own, and the link-local ones that it reaches the host with. */
function addresses6(claim: TrackedNetwork['claims'][number]): readonly string[] {
  const { ip6, mac } = claim;
  if (ip6 === undefined) return [];
  return mac === undefined ? [ip6] : [ip6, ...linkLocalsOf({ ...claim, mac }).map(formatIpv6)];
}

function refill(name: string, elements: readonly string[]): string {
  const addition = `add element ${name} { ${elements.join(', ')} }\n`;
  return `flush set ${name}\n${elements.length === 0 ? '' : addition}`;
}

const directions = ['leaving', 'entering'] as const;
type Direction = (typeof directions)[number];

// The second set of each kind has the same name with a 6.
const families = [
  { keyword: 'ip', type: 'ipv4_addr', suffix: '' },
  { keyword: 'ip6', type: 'ipv6_addr', suffix: '6' },
] as const;
type Family = (typeof families)[number];

function sets(family: Family, max: number): string {
  const { type, suffix } = family;
  return `  set guests${suffix} {
    type ${type}
  }
${directions.map((direction) => counters(direction, type, `${suffix}_${max}`)).join('\n')}
  set neighbours${suffix} {
    type ${type} . ${type}; size ${maxDynamic}; flags dynamic,timeout; timeout 5m
  }
${rateSet(`neighbours_rate${suffix}`, type)}`;
}

/** Both are keyed by an address of the guest. A VM without traffic has no entry. */
function counters(what: Direction | 'own', type: string, suffix: string): string {
  return `${rateSet(`${what}_rate${suffix}`, type)}
  set ${what}_open${suffix} {
    type ${type}; size ${maxDynamic}; flags dynamic
  }`;
}

/** Only packets that would begin a connection match: its entry is confirmed once it has passed all rules. */
function rules(max: number): string {
  const each = (text: (family: Family) => string): string => families.map(text).join('\n');
  return `  chain own {
${limits('own', 'ether saddr', `_${max}`, max)}
    meta l4proto tcp ct timeout set "brief"
  }
${bound('leaving', 'saddr', max)}
${bound('entering', 'daddr', max)}
  chain finding {
${each(
  ({
    keyword,
    suffix,
  }) => `    update @neighbours_rate${suffix} { ${keyword} saddr limit rate over ${neighbours.rate}/second burst ${neighbours.burst} packets } counter drop
    add @neighbours${suffix} { ${keyword} saddr . rt ${keyword} nexthop }`,
)}
  }
  chain passing {
${each(
  ({
    keyword,
    suffix,
  }) => `    ct status & confirmed == 0 iifname @bridges ${keyword} saddr @guests${suffix} jump leaving
    ct status & confirmed == 0 iifname @bridges oifname != @bridges ${keyword} saddr . rt ${keyword} nexthop != @neighbours${suffix} jump finding
    ct status & confirmed == 0 ct status dnat oifname @bridges ${keyword} daddr @guests${suffix} jump entering`,
)}
  }
  chain host {
${each(
  ({ keyword, suffix }) =>
    `    ct status & confirmed == 0 iifname @bridges ${keyword} saddr @guests${suffix} jump leaving`,
)}
  }`;
}

/** Where MAC addresses are not checked, on bridges of others, a guest may have any: then its address is what counts. */
function bound(direction: Direction, side: 'saddr' | 'daddr', max: number): string {
  const byMac = direction === 'leaving' ? '    ether saddr @macs goto own\n' : '';
  const each = families.map(({ keyword, suffix }) =>
    limits(direction, `${keyword} ${side}`, `${suffix}_${max}`, max),
  );
  return `  chain ${direction} {
${byMac}${each.join('\n')}
    meta l4proto tcp ct timeout set "brief"
  }`;
}

/** The rate comes first: it limits closed connections, and how many entries the count has to collect. */
function limits(what: Direction | 'own', key: string, suffix: string, max: number): string {
  return `    update @${what}_rate${suffix} { ${key} limit rate over ${rateOf(max)}/second burst ${max} packets } counter drop
    add @${what}_open${suffix} { ${key} ct count over ${max} } counter drop`;
}

/** Lines of these rules, as `nft list` prints them, as they would be with any other maximum. */
export function withoutMaximum(lines: readonly string[]): readonly string[] {
  return lines.map((line) => {
    const max = /@[a-z]+_(?:rate|open)6?_(\d+) /.exec(line)?.[1];
    if (max === undefined) return line;
    const [rate, count] = [
      `${rateOf(Number(max))}/second burst ${max} packets`,
      `count over ${max} `,
    ];
    return line.replace(`_${max} `, '_ ').replace(rate, 'rate').replace(count, 'count ');
  });
}

function rateOf(max: number): number {
  return Math.max(1, Math.floor(max / closedSeconds));
}
