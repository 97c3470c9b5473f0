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
