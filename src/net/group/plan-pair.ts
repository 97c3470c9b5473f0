import { formatIpv4, parseIpv4 } from '#spec';
import { NetError } from '../model/error.ts';

/** The two ends of a guest's link in an allocation's namespace. */
export interface Pair {
  /** The namespace's end, at which the guest reaches the other tasks of its group. */
  readonly gateway: string;
  readonly guest: string;
}

export const pairPrefix = 30;

/**
 * Sixteen pairs in 192.0.0.64/26. The block 192.0.0.0/24 is assigned to protocols that need addresses which no network
 * has (RFC 6890); its other uses are below .11 and at .170 and .171. A private network could be one that the guest wants
 * to reach, and hosts treat link-local addresses in ways of their own.
 */
const first = parseIpv4('192.0.0.64') ?? 0;
const pairs = 16;
const size = 2 ** (32 - pairPrefix);

/**
 * The first pair of which no address is in use in the namespace: one that is given to the other tasks of a group stays the
 * same when the task is started again.
 */
export function planPair(vm: string, inUse: ReadonlySet<string>): Pair {
  for (let at = 0; at < pairs; at += 1) {
    const network = first + at * size;
    const pair = { gateway: formatIpv4(network + 1), guest: formatIpv4(network + 2) };
    if (!inUse.has(pair.gateway) && !inUse.has(pair.guest)) return pair;
  }
  throw new NetError('host', `VM ${vm}: its group has ${pairs} VMs already, which is the maximum`);
}
