import { formatIpv4, formatIpv6, parseIpv4, parseIpv6 } from '#spec';
import { NetError } from '../model/error.ts';

/** The two ends of a guest's link in an allocation's namespace. */
export interface Pair {
  /** The namespace's end, at which the guest reaches the other tasks of its group. */
  readonly gateway: string;
  readonly guest: string;
  /** The same for IPv6, where the namespace has that. */
  readonly six: { readonly gateway: string; readonly guest: string };
}

export const pairPrefix = 30;
export const pairPrefix6 = 126;

/**
 * Sixteen pairs in 192.0.0.64/26. The block 192.0.0.0/24 is assigned to protocols that need addresses which no network
 * has (RFC 6890); its other uses are below .11 and at .170 and .171. A private network could be one that the guest wants
 * to reach, and hosts treat link-local addresses in ways of their own.
 */
const first = parseIpv4('192.0.0.64') ?? 0;
/** Of IPv6 no block is assigned to that, so they are in a private prefix, whose 40 bits are random (RFC 4193). */
const first6 = parseIpv6('fde5:4a95:8da2::') ?? 0n;
const pairs = 16;
const size = 2 ** (32 - pairPrefix);

/**
 * The first pair of which no address is in use in the namespace: one that is given to the other tasks of a group stays the
 * same when the task is started again.
 */
export function planPair(vm: string, inUse: ReadonlySet<string>): Pair {
  for (let at = 0; at < pairs; at += 1) {
    const network = first + at * size;
    const network6 = first6 + BigInt(at * size);
    const six = { gateway: formatIpv6(network6 + 1n), guest: formatIpv6(network6 + 2n) };
    const pair = { gateway: formatIpv4(network + 1), guest: formatIpv4(network + 2), six };
    const all = [pair.gateway, pair.guest, six.gateway, six.guest];
    if (!all.some((address) => inUse.has(address))) return pair;
  }
  throw new NetError('host', `VM ${vm}: its group has ${pairs} VMs already, which is the maximum`);
}
