import { type Address6, isLinkLocal6, parseIpv6 } from '#spec';
import { type Claim, linkLocalsOf } from '../store/claim.ts';

/** What all guests of a network with IPv6 share. */
export interface Network6 {
  /** The host's address in it, and the length of its prefix. */
  readonly address: Address6;
  /** The MAC address of the bridge: guests reach their router at it. */
  readonly mac: string;
  /** The DHCPv6 server's identifier, which a client repeats. */
  readonly serverId: Buffer;
  readonly nameservers: readonly bigint[];
  readonly searches: readonly string[];
  readonly mtu: number;
}

/** The identifier that a MAC address stands for (DUID-LL, RFC 8415, 11.4): the same in each process, and after each restart. */
export function serverIdOf(mac: string): Buffer {
  const linkLayer = 3;
  const ethernet = 1;
  return Buffer.from([0, linkLayer, 0, ethernet, ...macBytes(mac)]);
}

export function macBytes(mac: string): readonly number[] {
  return mac.split(':').map((byte) => Number.parseInt(byte, 16));
}

/** The name servers of IPv6 and the domains that a guest gets: those of its own job, where it has some. */
export function namesFor(
  { dns }: Claim,
  { nameservers, searches: ofNetwork }: Network6,
): Pick<Network6, 'nameservers' | 'searches'> {
  const { servers = [], searches = [] } = dns ?? {};
  // A job's own servers know nothing of the network's names.
  if (servers.length > 0) {
    return { nameservers: servers.flatMap((server) => parseIpv6(server) ?? []), searches };
  }
  return { nameservers, searches: [...searches, ...ofNetwork] };
}

/** A network's guests by their link-local addresses: the rules let each guest send with its own ones alone. */
export function byLinkLocal(claims: readonly Claim[]): ReadonlyMap<bigint, Claim> {
  return new Map(
    claims.flatMap((claim) => linkLocalsOf(claim).map((address) => [address, claim] as const)),
  );
}

/** The link-local address in the text of a sender, which names its link as well: `fe80::1%virbr0`. */
export function senderOf(text: string): bigint {
  return parseIpv6(text.replace(/%.*$/, '')) ?? 0n;
}

/** Where a guest is answered: in an allocation's namespace the sender of its queries has been replaced. */
export function recipientsOf(asker: bigint, claim: Claim): readonly bigint[] {
  return isLinkLocal6(asker) ? [asker] : linkLocalsOf(claim);
}
