/** The table that bounds how many connections each guest makes the kernel track. */
export const trackingTable = (table: string): string => `${table}_tracked`;

// Limits new neighbours on the host's links that a guest makes the host look for. The kernel keeps at most 1024 for all
// links (gc_thresh3), those that do not answer for a few seconds.
const neighbours = { rate: 20, burst: 200 };
// A closed connection no longer counts (nf_conncount), but is tracked for this long instead of the default 120 s.
const closedSeconds = 10;

/** A link that guests' packets come from, and the addresses of these guests. */
interface TrackedNetwork {
  readonly record: { readonly bridge: string };
  readonly claims: readonly { readonly ip: string }[];
}

/**
 * The nftables script that limits what each guest makes the kernel track: the host has one table of connections for
 * all, and an entry that saw a handshake stays for five days and is never evicted. A table of its own that is modified
 * and never replaced: its counts must survive a change of the rules. A new maximum starts new counts.
 */
export function formatTracking(
  table: string,
  networks: readonly TrackedNetwork[],
  maxConnections: number,
): string {
  const own = `inet ${trackingTable(table)}`;
  if (networks.length === 0) return `add table ${own}\ndelete table ${own}\n`;
  const bridges = networks.map(({ record }) => `"${record.bridge}"`);
  const guests = networks.flatMap(({ claims }) => claims.map(({ ip }) => ip));
  return `table ${own} {
  ct timeout brief {
    protocol tcp
    l3proto ip
    policy = { syn_recv : ${closedSeconds}, time_wait : ${closedSeconds} }
  }
  set bridges {
    type ifname
  }
  set guests {
    type ipv4_addr
  }
${directions.map((direction) => counters(direction, maxConnections)).join('\n')}
  set neighbours {
    type ipv4_addr . ipv4_addr; size 65535; flags dynamic,timeout; timeout 5m
  }
  set neighbours_rate {
    type ipv4_addr; size 65535; flags dynamic,timeout; timeout 1m
  }
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
${refill(`${own} bridges`, bridges)}${refill(`${own} guests`, guests)}table ${own} {
${rules(maxConnections)}
}
`;
}

function refill(name: string, elements: readonly string[]): string {
  const addition = `add element ${name} { ${elements.join(', ')} }\n`;
  return `flush set ${name}\n${elements.length === 0 ? '' : addition}`;
}

const directions = ['leaving', 'entering'] as const;
type Direction = (typeof directions)[number];

/** Both are keyed by the guest's address. A VM without traffic has no entry. */
function counters(direction: Direction, max: number): string {
  return `  set ${direction}_rate_${max} {
    type ipv4_addr; size 65535; flags dynamic,timeout; timeout 1m
  }
  set ${direction}_open_${max} {
    type ipv4_addr; size 65535; flags dynamic
  }`;
}

/** Only packets that would begin a connection match: its entry is confirmed once it has passed all rules. */
function rules(max: number): string {
  return `${bound('leaving', 'ip saddr', max)}
${bound('entering', 'ip daddr', max)}
  chain finding {
    update @neighbours_rate { ip saddr limit rate over ${neighbours.rate}/second burst ${neighbours.burst} packets } counter drop
    add @neighbours { ip saddr . rt ip nexthop }
  }
  chain passing {
    ct status & confirmed == 0 iifname @bridges ip saddr @guests jump leaving
    ct status & confirmed == 0 iifname @bridges oifname != @bridges ip saddr . rt ip nexthop != @neighbours jump finding
    ct status & confirmed == 0 ct status dnat oifname @bridges ip daddr @guests jump entering
  }
  chain host {
    ct status & confirmed == 0 iifname @bridges ip saddr @guests jump leaving
  }`;
}

/** The rate comes first: it limits closed connections, and how many entries the count has to collect. */
function bound(direction: Direction, address: string, max: number): string {
  const rate = Math.max(1, Math.floor(max / closedSeconds));
  return `  chain ${direction} {
    update @${direction}_rate_${max} { ${address} limit rate over ${rate}/second burst ${max} packets } counter drop
    add @${direction}_open_${max} { ${address} ct count over ${max} } counter drop
    meta l4proto tcp ct timeout set "brief"
  }`;
}
