import {
  contains,
  isLoopback,
  overlap6,
  type PortSpec,
  parseIpv4,
  parseIpv6,
  protocolsOf,
  smallestMtu6,
  subnetOf,
} from '#spec';
import { NetError } from '../model/error.ts';
import type { BridgeRequest, NicRequest } from '../model/nic.ts';
import type { PublishedElsewhere } from '../rules/published-rule.ts';
import type { Claim, NetworkInUse } from '../store/claim.ts';

/** Refuses ports that can't be mapped on any host. */
export function checkPorts({ vm, ports }: BridgeRequest): void {
  const seen = new Map<number, PortSpec[]>();
  for (const port of ports) {
    const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
    if (port.hostIp !== '' && !isIpv6(port) && parseIpv4(port.hostIp) === undefined) {
      throw refusal(`${what}: not an IP address`);
    }
    const others = seen.get(port.hostPort) ?? [];
    if (others.some((other) => overlaps(port, other))) {
      throw refusal(`${what}: requested twice`);
    }
    seen.set(port.hostPort, [...others, port]);
  }
}

/** Refuses ports at IPv6 addresses of the host where the guest has none itself. */
export function checkFamily(
  { vm, bridge, ports, mtu = smallestMtu6 }: BridgeRequest,
  ip6: string | undefined,
): void {
  const port = ip6 === undefined ? ports.find(isIpv6) : undefined;
  if (port === undefined) return;
  const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
  if (mtu < smallestMtu6)
    throw refusal(`${what}: IPv6 needs an mtu of ${smallestMtu6}, not ${mtu}`);
  throw refusal(`${what}: network ${bridge} has IPv4 only`);
}

function isIpv6({ hostIp }: PortSpec): boolean {
  return parseIpv6(hostIp) !== undefined;
}

function refusal(message: string): NetError {
  return new NetError('job', message);
}

/** Another NIC that has one of the requested ports. */
export interface PortConflict {
  readonly bridge: string;
  readonly claim: Claim;
  readonly port: PortSpec;
}

/** Every other NIC, in any network, that has a port of this request. Both may have thousands. */
export function findConflicts(
  request: Pick<NicRequest, 'vm' | 'index' | 'ports'>,
  networks: readonly NetworkInUse[],
): readonly PortConflict[] {
  const wanted = Map.groupBy(request.ports, ({ hostPort }) => hostPort);
  return networks.flatMap(({ record: { bridge }, claims }) =>
    claims.flatMap((claim) => {
      if (claim.vm === request.vm && claim.index === request.index) return [];
      const [port] = claim.ports.flatMap(
        (other) => wanted.get(other.hostPort)?.find((own) => overlaps(own, other)) ?? [],
      );
      return port === undefined ? [] : [{ bridge, claim, port }];
    }),
  );
}

export function portTaken({ vm }: NicRequest, { port, claim }: PortConflict): NetError {
  const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
  return new NetError('host', `${what} is already mapped to VM ${claim.vm}`);
}

export function portListenedOn({ vm }: NicRequest, port: PortSpec): NetError {
  const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
  return new NetError(
    'host',
    `${what} can't be mapped: a program of this host listens there already`,
  );
}

/** A rule of another program that would take a request's port away; `local` are the host's addresses at which it has ports. */
export function findPublisher(
  ports: readonly PortSpec[],
  published: readonly PublishedElsewhere[],
  local: readonly string[],
): { readonly port: PortSpec; readonly chain: string } | undefined {
  for (const port of ports) {
    const other = published.find((each) => takes(each, port, local));
    if (other !== undefined) return { port, chain: other.chain };
  }
  return undefined;
}

function takes(published: PublishedElsewhere, port: PortSpec, local: readonly string[]): boolean {
  const { first, last, protocols } = published;
  const { hostIp, hostPort } = port;
  if (hostPort < first || hostPort > last) return false;
  if (!protocolsOf(port).some((protocol) => protocols.includes(protocol))) return false;
  // Addresses of services, as Kubernetes has them, are none of the host's.
  return (hostIp === '' ? local : [hostIp]).some((own) => covers(published, own));
}

function covers({ family, address }: PublishedElsewhere, own: string): boolean {
  const own6 = parseIpv6(own);
  if (family !== undefined && family !== (own6 === undefined ? 4 : 6)) return false;
  if (address === undefined) return true;
  const [from = '', prefix] = address.split('/');
  const from6 = parseIpv6(from);
  if (own6 !== undefined && from6 !== undefined) {
    const range = { address: from6, prefix: Number(prefix ?? 128) };
    return overlap6(range, { address: own6, prefix: 128 });
  }
  const subnet = subnetOf(parseIpv4(from) ?? 0, Number(prefix ?? 32));
  return contains(subnet, parseIpv4(own) ?? 0);
}

export function portPublished(
  { vm }: NicRequest,
  { port, chain }: { readonly port: PortSpec; readonly chain: string },
): NetError {
  const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
  return new NetError(
    'host',
    `${what} can't be mapped: chain ${chain} of nftables leads it elsewhere`,
  );
}

export function where({ hostIp, hostPort }: PortSpec): string {
  const host = hostIp.includes(':') ? `[${hostIp}]` : hostIp;
  return `${hostIp === '' ? '*' : host}:${hostPort}`;
}

/** Whether any of the ports is reachable at a loopback address only. */
export function wantsLoopback(ports: readonly PortSpec[]): boolean {
  return ports.some(({ hostIp }) => isLoopback(parseIpv4(hostIp) ?? 0));
}

/** The same for ::1. */
export function wantsLoopback6(ports: readonly PortSpec[]): boolean {
  return ports.some(({ hostIp }) => parseIpv6(hostIp) === 1n);
}

function overlaps(one: PortSpec, other: PortSpec): boolean {
  if (one.hostPort !== other.hostPort) return false;
  if (!protocolsOf(one).some((protocol) => protocolsOf(other).includes(protocol))) return false;
  return one.hostIp === other.hostIp || one.hostIp === '' || other.hostIp === '';
}
