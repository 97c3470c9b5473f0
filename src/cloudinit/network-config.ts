import type { Plain } from './json-yaml.ts';
import type { SeedNic } from './seed-request.ts';

/**
 * Network configuration version 2. Interfaces are matched by MAC address and keep the name that the guest gives them.
 * The default route is written as a network: cloud-init 22.4 (Debian 12) refuses `to: default`, and netplan calls
 * `gateway4` deprecated.
 */
export function networkConfig(nics: readonly SeedNic[]): Plain {
  return {
    version: 2,
    ethernets: Object.fromEntries(nics.map((nic, index) => [`nic${index}`, ethernet(nic)])),
  };
}

function ethernet(nic: SeedNic): Plain {
  const addressed = nic.address !== undefined && nic.prefix !== undefined;
  return {
    match: { macaddress: nic.mac.toLowerCase() },
    dhcp4: !addressed,
    ...(addressed && { addresses: [`${nic.address}/${nic.prefix}`] }),
    ...(nic.gateway !== undefined && {
      routes: [{ to: nic.gateway.includes(':') ? '::/0' : '0.0.0.0/0', via: nic.gateway }],
    }),
    ...resolver(nic),
    ...(nic.mtu !== undefined && { mtu: nic.mtu }),
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
