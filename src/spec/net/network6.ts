import { quoted } from '../text/quoted.ts';
import {
  type Address6,
  formatIpv6,
  isGlobal,
  isUniqueLocal,
  network6,
  overlap6,
  parseAddress6,
} from './ipv6.ts';

/** What is looked at of a managed network. */
interface Network {
  readonly bridge: string;
  /** Of its IPv4 address. */
  readonly prefix: number;
  readonly address6?: string | undefined;
}

const minPrefix = 48;

/** What is wrong with the network's IPv6 address in itself. */
export function checkAddress6({ prefix, address6 }: Network): readonly string[] {
  if (address6 === undefined || address6 === 'auto') return [];
  const written = quoted(address6);
  const own = parseAddress6(address6);
  const max = maxPrefix(prefix);
  if (own === undefined || own.prefix < minPrefix || own.prefix > max) {
    return [
      `${written} is neither "auto" nor "off" nor an IPv6 address with a prefix length from ${minPrefix} to ${max}, ` +
        'such as "fd12:3456:789a::1/64"',
    ];
  }
  if (!isGlobal(own.address) && !isUniqueLocal(own.address)) {
    return [`${written} is neither a global address (2000::/3) nor a private one (fd00::/8)`];
  }
  if (own.address !== network6(own)) return [];
  const better = `${formatIpv6(own.address + 1n)}/${own.prefix}`;
  return [`${written} is the address of all routers of its network: try ${quoted(better)}`];
}

export function checkOverlap6(
  { address6 = '' }: Network,
  earlier: readonly Network[],
): readonly string[] {
  const own = parseAddress6(address6);
  if (own === undefined) return [];
  return earlier.flatMap((other) => {
    const theirs = parseAddress6(other.address6 ?? '');
    if (theirs === undefined || !overlap6(own, theirs)) return [];
    return [
      `${quoted(address6)} overlaps with ${quoted(other.address6 ?? '')} of bridge ${other.bridge}`,
    ];
  });
}

/** Every IPv4 address of the network has a place in the IPv6 one. */
function maxPrefix(prefix: number): number {
  return Number.isNaN(prefix) ? 120 : 96 + prefix;
}

/**
 * The IPv6 address of a guest, at the place in the network that its IPv4 address has there: the one is unique because
 * the other is. `offset` is that place.
 */
export function address6At(network: Address6, offset: number): bigint {
  return network6(network) + BigInt(offset);
}
