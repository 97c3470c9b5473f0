import type { Plain } from './json-yaml.ts';
import type { SeedNic } from './seed-request.ts';

/** Above those that DHCP clients use: 100 (netplan) to 1024 (networkd). */
const otherRouteMetric = 2048;

/**
 * The network configuration, in the form that every renderer of cloud-init writes correctly: 20.4, 22.4, 25.1 and 26.2
 * with ifupdown, sysconfig, netplan, networkd and NetworkManager (docs/design.md). Interfaces are found by MAC address
 * and get the names eth0, eth1, … in the job's order.
 */
export function networkConfig(nics: readonly SeedNic[]): Plain {
  const requested = nics.every(({ address }) => address === undefined);
  return requested ? dhcpConfig(nics) : staticConfig(nics);
}

/**
 * Version 1. Version 2 gives no default route with ifupdown before 25.2, and cloud-init before 22.3 takes an id without
 * `set-name` for the name of an interface that does not exist.
 */
function staticConfig(nics: readonly SeedNic[]): Plain {
  return {
    version: 1,
    config: nics.map((nic, index) => ({
      type: 'physical',
      name: nicName(index),
      mac_address: nic.mac.toLowerCase(),
      ...mtu(nic),
      ...withoutAdvertisements(nic),
      subnets: [{ ...addressing(nic), ...subnetResolver(nic) }, ...addressing6(nic)],
    })),
  };
}

/**
 * Version 2, because version 1 cannot express two things: that netplan identifies the guest to the DHCP server by its
 * MAC address (by default it is the machine-id, which VMs of one image may have in common, and then all of them get one
 * address), and, with netplan and networkd, name servers beside those of DHCP.
 */
function dhcpConfig(nics: readonly SeedNic[]): Plain {
  return {
    version: 2,
    ethernets: Object.fromEntries(
      nics.map((nic, index) => [
        nicName(index),
        {
          match: { macaddress: nic.mac.toLowerCase() },
          'set-name': nicName(index),
          dhcp4: true,
          'dhcp-identifier': 'mac',
          ...otherRoute(nic),
          ...mtu(nic),
          ...resolver(nic),
        },
      ]),
    ),
  };
}

/** What the guest's interface is called. */
export function nicName(index: number): string {
  return `eth${index}`;
}

/**
 * netplan and networkd leave the default route out. The other renderers know the metric only, which makes the route of
 * the other interface win.
 */
function otherRoute({ isDefaultRoute = true }: SeedNic): Plain & object {
  if (isDefaultRoute) return {};
  return { 'dhcp4-overrides': { 'use-routes': false, 'route-metric': otherRouteMetric } };
}

function mtu({ mtu: bytes }: SeedNic): Plain & object {
  return bytes === undefined ? {} : { mtu: bytes };
}

function addressing({ address, prefix, gateway, isDefaultRoute = true }: SeedNic): Plain & object {
  if (address === undefined || prefix === undefined) {
    return { type: 'dhcp4', ...(!isDefaultRoute && { metric: otherRouteMetric }) };
  }
  return {
    type: address.includes(':') ? 'static6' : 'static',
    address: `${address}/${prefix}`,
    ...(gateway !== undefined && isDefaultRoute && { gateway }),
  };
}

/**
 * A router whose address the guest has is announced on the network as well, by its link-local address: one route is enough. Releases before 23 do not
 * pass this on to networkd, which then has one route over both addresses of the same router.
 */
function withoutAdvertisements({ address = '', gateway, six }: SeedNic): Plain & object {
  const own = address.includes(':') ? gateway : six?.gateway;
  return own === undefined ? {} : { 'accept-ra': false };
}

function addressing6({ six, isDefaultRoute = true }: SeedNic): readonly (Plain & object)[] {
  if (six === undefined) return [];
  const { ip, prefix, gateway } = six;
  const route = gateway !== undefined && isDefaultRoute ? { gateway } : {};
  return [{ type: 'static6', address: `${ip}/${prefix}`, ...route }];
}

function subnetResolver({ nameservers, searches = [] }: SeedNic): Plain & object {
  return {
    ...(nameservers.length > 0 && { dns_nameservers: nameservers }),
    ...(searches.length > 0 && { dns_search: searches }),
  };
}

function resolver({ nameservers, searches = [] }: SeedNic): Plain & object {
  if (nameservers.length === 0 && searches.length === 0) return {};
  return {
    nameservers: {
      ...(nameservers.length > 0 && { addresses: nameservers }),
      ...(searches.length > 0 && { search: searches }),
    },
  };
}
