import {
  formatAddress6,
  formatIpv6,
  type ManagedNetwork,
  network6,
  overlap6,
  parseAddress6,
  parseIpv6,
  smallestMtu6,
} from '#spec';
import { NetError } from '../model/error.ts';
import type { BridgeRequest } from '../model/nic.ts';
import type { Claim } from '../store/claim.ts';
import { address6Of } from '../store/subnets.ts';

/** What `planAddress` has planned, and what it has from. */
interface Facts {
  readonly ip: string;
  readonly claims: readonly Claim[];
  readonly avoid: ReadonlyMap<string, string>;
}

/**
 * The IPv6 address of a NIC: the one that the job asks for, else the one at the place of its IPv4 address; undefined in a
 * network without IPv6, and where the job asks for an MTU that IPv6 does not allow.
 */
export function planAddress6(
  request: BridgeRequest,
  network: ManagedNetwork,
  facts: Facts,
): string | undefined {
  const { vm, index, ip6, mtu = smallestMtu6 } = request;
  // The kernel of the guest has no IPv6 on such a link.
  if (mtu < smallestMtu6) return undefined;
  const planned = ip6 ?? address6Of(network, facts.ip);
  if (planned === undefined) return undefined;
  const what =
    ip6 === undefined
      ? `VM ${vm}: ${planned}, which goes with ip ${facts.ip},`
      : `VM ${vm}: ip6 ${ip6}`;
  refuseOutside(what, planned, network);
  const others = facts.claims.filter((claim) => claim.vm !== vm || claim.index !== index);
  const holder = others.find((claim) => claim.ip6 === planned);
  const user = holder === undefined ? userOf(planned, network, facts) : `VM ${holder.vm}`;
  if (user === undefined) return planned;
  throw new NetError('host', `${what} in network ${network.bridge} is taken by ${user}`);
}

/** The host's IPv6 address in a network that has IPv6. */
export function gateway6({ address6 = '' }: Pick<ManagedNetwork, 'address6'>): string | undefined {
  const six = parseAddress6(address6);
  return six && formatIpv6(six.address);
}

function refuseOutside(what: string, planned: string, network: ManagedNetwork): void {
  const { bridge, address6 = '' } = network;
  const six = parseAddress6(address6);
  if (six === undefined) {
    throw new NetError(
      'host',
      `${what}: network ${bridge} has IPv4 only, by its address6 or because this host has IPv6 disabled`,
    );
  }
  const address = parseIpv6(planned) ?? 0n;
  const all = { ...six, address: network6(six) };
  if (address === all.address || !overlap6(six, { address, prefix: 128 })) {
    throw new NetError(
      'job',
      `${what} is no address for a guest in network ${bridge} (${formatAddress6(all)})`,
    );
  }
  if (address !== six.address) return;
  throw new NetError('job', `${what} is that of network ${bridge} itself`);
}

/** Of other agents' VMs the taps show the IPv4 address alone. */
function userOf(
  planned: string,
  network: ManagedNetwork,
  { ip, avoid }: Facts,
): string | undefined {
  const beside = [...avoid].find(
    ([other]) => other !== ip && !other.includes(':') && address6Of(network, other) === planned,
  );
  return avoid.get(planned) ?? beside?.[1];
}
