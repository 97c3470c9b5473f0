import { quoted } from '../text/quoted.ts';
import { parseHostPorts } from './host-port.ts';
import { contains, formatIpv4, parseIpv4, type Subnet, subnetOf } from './ipv4.ts';
import { parseIpv6 } from './ipv6.ts';
import { checkAddress6, checkOverlap6 } from './network6.ts';

export type HostAccess = 'closed' | 'open';

/** A network that the driver makes on first use, with the host's address in it. */
export interface ManagedNetwork {
  readonly bridge: string;
  /** Dotted decimal. */
  readonly address: string;
  /** 8 to 29. */
  readonly prefix: number;
  /**
   * The host's IPv6 address with its prefix, `fd12:3456:789a::1/64`; `auto` for one in a private prefix made from the
   * bridge's name. Without it the network has IPv4 only.
   */
  readonly address6?: string | undefined;
  /** Name servers of the guests; the host's own when absent. */
  readonly nameservers?: readonly string[];
  /** Whether guests find each other by name, over a name server on the host's address; true when absent. */
  readonly dns?: boolean;
  /** The domain of their names; made from the bridge's name when absent. */
  readonly domain?: string;
  /**
   * Whether guests may reach what listens on the host itself. `closed`, the default, leaves them DHCP, DNS and ping;
   * published ports lead to other guests, not to the host, and stay reachable.
   */
  readonly hostAccess?: HostAccess;
  /** Ports of the host that guests may reach although it is closed: `tcp/8080`, or `53` for TCP and UDP. */
  readonly hostPorts?: readonly string[];
  /** Whether guests reach each other at published ports only. Off when absent. */
  readonly isolate?: boolean;
  /** Whether guests have the host's address outside. When off, they keep their own, to which others need a route. */
  readonly nat?: boolean;
  /** Whether the driver answers DHCP. Guests with cloud-init have their address from the seed in any case. */
  readonly dhcp?: boolean;
  /** Of the bridge and its guests; that of the host's way out when absent, at most 1500. */
  readonly mtu?: number;
}

/** An IPv6 network needs 1280 (RFC 8200, 5); a tap allows 65521. */
export const networkMtu = { min: 1280, max: 65_521 } as const;

/** A problem of the network at `index` of the list; `key` is a key of its configuration block. */
export interface NetworkProblem {
  readonly index: number;
  readonly key: string;
  readonly text: string;
}

/** Every problem of the configured networks, of each one and between them; [] when there is none. */
export function checkNetworks(networks: readonly ManagedNetwork[]): readonly NetworkProblem[] {
  return networks.flatMap((network, index) => {
    const earlier = networks.slice(0, index);
    const problems = [
      ...checkBridge(network, earlier),
      ...checkAddress(network, earlier),
      ...checkAddress6(network).map((text) => ['address6', text] as const),
      ...checkOverlap6(network, earlier).map((text) => ['address6', text] as const),
      ...checkNameservers(network),
      ...checkHostPorts(network.hostPorts ?? []),
      ...checkDomain(network.domain),
    ];
    return problems.map(([key, text]) => ({ index, key, text }));
  });
}

/** Why the text cannot be the name of a bridge; undefined when it can. */
export function bridgeNameProblem(name: string): string | undefined {
  // Narrower than the kernel's rule: the name becomes part of paths and of nftables text.
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/.test(name)) return undefined;
  const rule = '1 to 15 letters, digits, dots, dashes and underscores, the first a letter or digit';
  return `${quoted(name)} is not a name for a bridge (${rule})`;
}

// With a host name of 63 bytes before it, and some in reserve of the 253 that a name may have.
const maxDomainBytes = 128;

type Problem = readonly [key: string, text: string];

function checkBridge(
  { bridge }: ManagedNetwork,
  earlier: readonly ManagedNetwork[],
): readonly Problem[] {
  const problem = bridgeNameProblem(bridge);
  if (problem !== undefined) return [['bridge', problem]];
  return earlier.some((other) => other.bridge === bridge)
    ? [['bridge', `${bridge} is defined twice`]]
    : [];
}

function checkAddress(
  network: ManagedNetwork,
  earlier: readonly ManagedNetwork[],
): readonly Problem[] {
  const subnet = hostSubnet(network);
  const written = quoted(formatAddress(network));
  if (typeof subnet === 'string') return [['address', `${written} ${subnet}`]];
  return earlier.flatMap((other): Problem[] => {
    const theirs = hostSubnet(other);
    if (typeof theirs === 'string' || !overlap(subnet, theirs)) return [];
    const text = `${written} overlaps with ${quoted(formatAddress(other))} of bridge ${other.bridge}`;
    return [['address', text]];
  });
}

/** The subnet of a host's address, or the problem with that address. */
function hostSubnet({ address, prefix }: ManagedNetwork): Subnet | string {
  const number = parseIpv4(address);
  // A longer prefix leaves no addresses for guests, a shorter one is a mistake.
  if (number === undefined || !(prefix >= 8 && prefix <= 29)) {
    return 'is not an IPv4 address with a prefix length from 8 to 29, such as "192.168.122.1/24"';
  }
  const subnet = subnetOf(number, prefix);
  if (number !== subnet.network && number !== subnet.broadcast) return subnet;
  const which = number === subnet.network ? 'first' : 'last';
  const better = `${formatIpv4(subnet.network + 1)}/${prefix}`;
  return `is the ${which} address of its network, which no host can have: try "${better}"`;
}

function checkNameservers({ nameservers = [] }: ManagedNetwork): readonly Problem[] {
  return nameservers.flatMap((server, at): Problem[] => {
    if (parseIpv4(server) !== undefined || parseIpv6(server) !== undefined) return [];
    return [[`nameservers[${at}]`, `${quoted(server)} is not an IP address`]];
  });
}

function checkHostPorts(ports: readonly string[]): readonly Problem[] {
  return ports.flatMap((port, at): Problem[] =>
    parseHostPorts(port) === undefined
      ? [
          [
            `allow_host_ports[${at}]`,
            `${quoted(port)} is not a port, such as 53, "tcp/22", "udp/53"`,
          ],
        ]
      : [],
  );
}

/** Below `internal`, which has no owner on the Internet; a name of its own keeps other names there as they are. */
export function defaultDomain(bridge: string): string {
  const label = bridge.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  return `${label.replace(/^-|-$/g, '')}.internal`;
}

function checkDomain(domain: string | undefined): readonly Problem[] {
  if (domain === undefined) return [];
  const written = quoted(domain);
  const label = '[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?';
  if (domain.length > maxDomainBytes || !new RegExp(`^${label}(\\.${label})*$`).test(domain)) {
    const rule = `labels of letters, digits and dashes with dots between, at most ${maxDomainBytes} bytes`;
    return [['domain', `${written} is not a domain name (${rule})`]];
  }
  if (!/(^|\.)(local|localhost|arpa)$/i.test(domain)) return [];
  return [['domain', `${written} has a meaning of its own for resolvers: try "lan.internal"`]];
}

/** `192.168.122.1/24` → address and prefix; a text of another form is returned as the address, with a prefix of NaN. */
export function splitAddress(text: string): { readonly address: string; readonly prefix: number } {
  const [, address, prefix] = /^([^/]*)\/(\d{1,2})$/.exec(text) ?? [];
  return address === undefined
    ? { address: text, prefix: NaN }
    : { address, prefix: Number(prefix) };
}

function formatAddress({ address, prefix }: Pick<ManagedNetwork, 'address' | 'prefix'>): string {
  return Number.isNaN(prefix) ? address : `${address}/${prefix}`;
}

/** Whether two subnets share addresses, in which case one contains the other. */
export function overlap(one: Subnet, other: Subnet): boolean {
  return contains(one, other.network) || contains(other, one.network);
}
