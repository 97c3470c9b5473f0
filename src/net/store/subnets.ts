import type { Route } from '#netlink';
import { type ManagedNetwork, overlap, parseIpv4, type Subnet, subnetOf } from '#spec';
import type { NetworkRecord } from './claim.ts';

export function networkSubnet(network: { address: string; prefix: number }): Subnet {
  return subnetOf(parseIpv4(network.address) ?? 0, network.prefix);
}

/** Another network that is in use and shares addresses with this one. */
export function overlappingNetwork(
  network: ManagedNetwork,
  records: readonly NetworkRecord[],
): NetworkRecord | undefined {
  const subnet = networkSubnet(network);
  return records.find(
    (record) => record.bridge !== network.bridge && overlap(subnet, networkSubnet(record)),
  );
}

// VPNs split the default route into halves and more; no network of the driver is as large.
const minPrefix = 8;

/** A route of the host to some of the network's addresses, default routes aside. */
export function overlappingRoute(
  network: ManagedNetwork,
  routes: readonly Route[],
): Route | undefined {
  const subnet = networkSubnet(network);
  return routes.find(
    (route) =>
      route.prefix >= minPrefix &&
      overlap(subnet, networkSubnet({ address: route.destination, prefix: route.prefix })),
  );
}
