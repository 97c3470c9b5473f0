import type { Route } from '#netlink';
import {
  address6At,
  formatAddress6,
  formatIpv6,
  type ManagedNetwork,
  network6,
  overlap,
  overlap6,
  parseAddress6,
  parseIpv4,
  parseIpv6,
  type Subnet,
  subnetOf,
} from '#spec';
import type { NetworkRecord } from './claim.ts';

export function networkSubnet(network: { address: string; prefix: number }): Subnet {
  return subnetOf(parseIpv4(network.address) ?? 0, network.prefix);
}

/** The network's prefix of IPv6, as nft writes it; [] where it has none. */
export function prefixOf({ address6 = '' }: Pick<NetworkRecord, 'address6'>): readonly string[] {
  const six = parseAddress6(address6);
  return six === undefined ? [] : [formatAddress6({ ...six, address: network6(six) })];
}

/** Another network that is in use and shares addresses with this one. */
export function overlappingNetwork(
  network: ManagedNetwork,
  records: readonly NetworkRecord[],
): NetworkRecord | undefined {
  const subnet = networkSubnet(network);
  const six = parseAddress6(network.address6 ?? '');
  return records.find((record) => {
    if (record.bridge === network.bridge) return false;
    const theirs = parseAddress6(record.address6 ?? '');
    const meets6 = six !== undefined && theirs !== undefined && overlap6(six, theirs);
    return meets6 || overlap(subnet, networkSubnet(record));
  });
}

// VPNs split the default route into halves and more; no network of the driver is as large.
const minPrefix = 8;

/** A route of the host to some of the network's addresses, default routes aside. */
export function overlappingRoute(
  network: ManagedNetwork,
  routes: readonly Route[],
): Route | undefined {
  const subnet = networkSubnet(network);
  const six = parseAddress6(network.address6 ?? '');
  return routes.find(({ destination, prefix }) => {
    if (prefix < minPrefix) return false;
    const address = parseIpv6(destination);
    if (address === undefined)
      return overlap(subnet, networkSubnet({ address: destination, prefix }));
    return six !== undefined && overlap6(six, { address, prefix });
  });
}

/** The IPv6 address that belongs to an IPv4 address of the network; undefined where it has no IPv6. */
export function address6Of(
  network: Pick<ManagedNetwork, 'address' | 'prefix' | 'address6'>,
  ip: string,
): string | undefined {
  const six = parseAddress6(network.address6 ?? '');
  if (six === undefined) return undefined;
  const offset = (parseIpv4(ip) ?? 0) - networkSubnet(network).network;
  return formatIpv6(address6At(six, offset));
}
