import { formatIpv4, formatSubnet, type ManagedNetwork, parseIpv4 } from '#spec';
import { NetError } from '../model/error.ts';
import { startingPoint } from '../model/names.ts';
import type { BridgeRequest } from '../model/nic.ts';
import type { Claim } from '../store/claim.ts';
import { address6Of, networkSubnet } from '../store/subnets.ts';
import { gateway6 } from './plan-address6.ts';

/**
 * An address for a NIC: the one it has, else the first free one after a place given by the VM's name, so that a VM tends
 * to get the same address again. `avoid` are addresses that are in use without a claim, and what uses each. An address that
 * the job asks for is checked instead.
 */
export function planAddress(
  request: BridgeRequest,
  network: ManagedNetwork,
  facts: { readonly claims: readonly Claim[]; readonly avoid: ReadonlyMap<string, string> },
): string {
  const { vm, index } = request;
  const { fixed, fixed6 } = request;
  if (fixed !== undefined || fixed6 !== undefined) {
    const own = fixed === undefined ? `prefix6 ${fixed6?.prefix}` : `prefix ${fixed.prefix}`;
    const what = `VM ${vm}: ${own}: ${network.bridge} is a managed network`;
    throw new NetError(
      'job',
      `${what}, which has its own prefix, gateway and name servers: leave them out`,
    );
  }
  const own = facts.claims.find((claim) => claim.vm === vm && claim.index === index);
  if (request.ip !== undefined && request.ip !== own?.ip) {
    refuseUnusable(request, request.ip, network, facts);
    return request.ip;
  }
  if (own !== undefined) return own.ip;
  const subnet = networkSubnet(network);
  const claimed = new Set(facts.claims.map(({ ip }) => ip));
  const count = subnet.broadcast - subnet.network - 1;
  const taken6 = new Set([gateway6(network), ...facts.claims.map(({ ip6 }) => ip6)]);
  const start = startingPoint(vm, index, count);
  for (let step = 0; step < count; step++) {
    const ip = formatIpv4(subnet.network + 1 + ((start + step) % count));
    if (ip === network.address) continue;
    // Its place in the IPv6 network may be the gateway's there, or that of a VM whose job chose it.
    const ip6 = address6Of(network, ip);
    if (ip6 !== undefined && taken6.has(ip6)) continue;
    if (!claimed.has(ip) && !facts.avoid.has(ip)) return ip;
  }
  throw new NetError(
    'host',
    `VM ${vm}: no free address in network ${network.bridge} (${network.address}/${network.prefix}, ` +
      `${facts.claims.length} in use)`,
  );
}

function refuseUnusable(
  { vm }: BridgeRequest,
  ip: string,
  network: ManagedNetwork,
  { claims, avoid }: Parameters<typeof planAddress>[2],
): void {
  const { bridge, address } = network;
  const subnet = networkSubnet(network);
  const number = parseIpv4(ip) ?? 0;
  const what = `VM ${vm}: ip ${ip}`;
  if (number <= subnet.network || number >= subnet.broadcast) {
    throw new NetError(
      'job',
      `${what} is no address for a guest in network ${bridge} (${formatSubnet(subnet)})`,
    );
  }
  if (ip === address) throw new NetError('job', `${what} is that of network ${bridge} itself`);
  const holder = claims.find((claim) => claim.ip === ip);
  const user = holder === undefined ? avoid.get(ip) : `VM ${holder.vm}`;
  if (user !== undefined) {
    throw new NetError('host', `${what} in network ${bridge} is taken by ${user}`);
  }
}
