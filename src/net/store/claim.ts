import * as v from 'valibot';
import { type GuestDns, type HostAccess, linkLocalOf, type PortSpec, parseIpv6 } from '#spec';

/**
 * One NIC's place in a managed network. Its file is named by the address, so that only one process can claim it. Rules
 * and DHCP replies are made from these files alone.
 */
export interface Claim {
  readonly ip: string;
  /** In a network with IPv6. */
  readonly ip6?: string;
  /** Link-local addresses that the guest chose itself, the oldest first. */
  readonly linkLocals?: readonly string[];
  /** Link-local addresses that it asked with and did not get, as its VM's events have it. */
  readonly contested?: readonly string[];
  readonly vm: string;
  readonly index: number;
  readonly mac: string;
  readonly tap: string;
  readonly hostname: string;
  readonly ports: readonly PortSpec[];
  /** Of its job; absent in claims of plugins before 0.3. */
  readonly dns?: GuestDns | undefined;
  /** false: DHCP gives no gateway, because the guest's default route goes through another NIC. */
  readonly isDefaultRoute?: boolean | undefined;
  /** Of the guest; the bridge's where it is absent. */
  readonly mtu?: number | undefined;
  /** The bridge's when its tap was made. */
  readonly tapMtu?: number | undefined;
}

/** A managed network that is in use, as kept on disk. */
export interface NetworkRecord {
  readonly bridge: string;
  readonly address: string;
  readonly prefix: number;
  /** true: the driver made the bridge and removes it; false: it existed before. */
  readonly owned: boolean;
  readonly hostAccess: HostAccess;
  /** Those that its guests get. */
  readonly nameservers: readonly string[];
  /** As configured; absent in records of plugins before 0.3, and where it is the default. */
  readonly address6?: string | undefined;
  readonly hostPorts?: readonly string[];
  readonly isolate?: boolean;
  readonly nat?: boolean;
  readonly dhcp?: boolean;
  readonly mtu?: number;
  /** Whether it is to have a name server of ours, for names in this domain. */
  readonly dns: boolean;
  readonly domain: string;
  /** What that name server asks about other names; [] for the host's name servers, as they are by then. */
  readonly upstream: readonly string[];
}

/** A network in use, with all its NICs. */
export interface NetworkInUse {
  readonly record: NetworkRecord;
  readonly claims: readonly Claim[];
}

const portMapping = v.object({
  label: v.string(),
  hostIp: v.string(),
  hostPort: v.number(),
  guestPort: v.number(),
  protocol: v.exactOptional(v.picklist(['tcp', 'udp'])),
});
const claim = v.object({
  ip6: v.exactOptional(v.string()),
  linkLocals: v.exactOptional(v.array(v.string())),
  contested: v.exactOptional(v.array(v.string())),
  vm: v.string(),
  index: v.number(),
  mac: v.string(),
  tap: v.string(),
  hostname: v.string(),
  ports: v.array(portMapping),
  dns: v.optional(v.object({ servers: v.array(v.string()), searches: v.array(v.string()) })),
  isDefaultRoute: v.optional(v.boolean()),
  mtu: v.optional(v.number()),
  tapMtu: v.optional(v.number()),
});
const networkRecord = v.object({
  bridge: v.string(),
  address: v.string(),
  prefix: v.number(),
  owned: v.boolean(),
  hostAccess: v.picklist(['closed', 'open']),
  nameservers: v.optional(v.array(v.string()), []),
  address6: v.exactOptional(v.string()),
  hostPorts: v.exactOptional(v.array(v.string())),
  isolate: v.exactOptional(v.boolean()),
  nat: v.exactOptional(v.boolean()),
  dhcp: v.exactOptional(v.boolean()),
  mtu: v.exactOptional(v.number()),
  // Absent in records of plugins before 0.3.
  dns: v.optional(v.boolean(), false),
  domain: v.optional(v.string(), ''),
  upstream: v.optional(v.array(v.string()), []),
});

/**
 * The domain that guests' names are in; undefined when no name server of ours answers in the network. On a bridge of
 * others one of theirs may have the address.
 */
export function namesOf(
  network: Pick<NetworkRecord, 'owned' | 'dns' | 'domain'>,
): string | undefined {
  return network.owned && network.dns ? network.domain : undefined;
}

/**
 * How guests find names. Ours comes first; the others are for the time in which no plugin runs, and know no guests.
 */
export function resolverConfig(
  network: Omit<NetworkRecord, 'bridge' | 'prefix' | 'hostAccess' | 'upstream'>,
): { readonly nameservers: readonly string[]; readonly searches: readonly string[] } {
  const { address, nameservers } = network;
  const domain = namesOf(network);
  if (domain === undefined) return { nameservers, searches: [] };
  return { nameservers: [...new Set([address, ...nameservers])], searches: [domain] };
}

/**
 * The link-local addresses of a NIC: the one that its MAC address stands for, and those that were admitted. None in a
 * network with IPv4 only.
 */
export function linkLocalsOf({
  ip6,
  mac,
  linkLocals = [],
}: Pick<Claim, 'ip6' | 'mac' | 'linkLocals'>): readonly bigint[] {
  if (ip6 === undefined) return [];
  return [linkLocalOf(mac), ...linkLocals.flatMap((text) => parseIpv6(text) ?? [])];
}

/** undefined for a file that is torn or not ours. */
export function decodeClaim(ip: string, text: string): Claim | undefined {
  return readClaim(ip, json(text));
}

/** undefined where it is none. */
export function readClaim(ip: string, found: unknown): Claim | undefined {
  const result = v.safeParse(claim, found);
  return result.success ? { ip, ...result.output } : undefined;
}

export function encodeClaim({ ip: _, ...rest }: Claim): string {
  return `${JSON.stringify(rest)}\n`;
}

export function decodeNetwork(text: string): NetworkRecord | undefined {
  return readNetwork(json(text));
}

/** undefined where it is none. */
export function readNetwork(found: unknown): NetworkRecord | undefined {
  const result = v.safeParse(networkRecord, found);
  return result.success ? result.output : undefined;
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
