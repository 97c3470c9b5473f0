import { formatIpv4, type ManagedNetwork } from '#spec';
import { NetError } from '../model/error.ts';
import { startingPoint } from '../model/names.ts';
import type { BridgeRequest } from '../model/nic.ts';
import type { Claim } from '../store/claim.ts';
import { networkSubnet } from '../store/subnets.ts';

/**
 * An address for a NIC: the one it has, else the first free one after a place given by the VM's name, so that a VM tends
 * to get the same address again. `avoid` are addresses that other machines were seen to use.
 */
export function planAddress(
  request: BridgeRequest,
  network: ManagedNetwork,
  facts: { readonly claims: readonly Claim[]; readonly avoid: ReadonlySet<string> },
): string {
  const { vm, index } = request;
  const own = facts.claims.find((claim) => claim.vm === vm && claim.index === index);
  if (own !== undefined) return own.ip;
  const subnet = networkSubnet(network);
  const claimed = new Set(facts.claims.map(({ ip }) => ip));
  const count = subnet.broadcast - subnet.network - 1;
  const start = startingPoint(vm, index, count);
  for (let step = 0; step < count; step++) {
    const ip = formatIpv4(subnet.network + 1 + ((start + step) % count));
    if (ip !== network.address && !claimed.has(ip) && !facts.avoid.has(ip)) return ip;
  }
  throw new NetError(
    'host',
    `VM ${vm}: no free address in network ${network.bridge} (${network.address}/${network.prefix}, ` +
      `${facts.claims.length} in use)`,
  );
}
