import {
  formatIpv6,
  isUniqueLocal,
  type PortSpec,
  type Protocol,
  parseAddress6,
  parseIpv6,
  protocolsOf,
} from '#spec';
import { resolverPort } from '../model/names.ts';
import { type Claim, type NetworkInUse, type NetworkRecord, namesOf } from '../store/claim.ts';
import { prefixOf } from '../store/subnets.ts';
import { rateSet, set } from './nft-text.ts';

/** One published port, over one protocol. */
interface Mapping {
  readonly claim: Claim;
  readonly port: PortSpec;
  readonly protocol: Protocol;
}

export function mappingsOf(networks: readonly NetworkInUse[]): readonly Mapping[] {
  return networks.flatMap(({ claims }) =>
    claims.flatMap((claim) =>
      claim.ports.flatMap((port) =>
        protocolsOf(port).map((protocol) => ({ claim, port, protocol })),
      ),
    ),
  );
}

/** The sets of the IPv6 side of networks that have one. */
export function sets6(networks: readonly NetworkInUse[]): readonly string[] {
  const claims = networks.flatMap((network) => network.claims);
  const guests = claims.flatMap(({ ip6 }) => ip6 ?? []);
  return [
    set('set guests6', 'ipv6_addr', guests),
    set(
      'set subnets6',
      'ipv6_addr; flags interval',
      networks.flatMap(({ record }) => prefixOf(record)),
    ),
    set(
      'set translated6',
      'ipv6_addr; flags interval',
      networks.filter(isTranslated).flatMap(({ record }) => prefixOf(record)),
    ),
    set('set routed6', 'ipv6_addr . inet_proto . inet_service', networks.flatMap(routedPorts)),
  ];
}

export function maps6(networks: readonly NetworkInUse[]): readonly string[] {
  const target = 'inet_proto . inet_service : ipv6_addr . inet_service';
  const mappings = mappingsOf(networks).flatMap(({ claim, port, protocol }) => {
    if (claim.ip6 === undefined) return [];
    const text = `${protocol} . ${port.hostPort} : ${claim.ip6} . ${port.guestPort}`;
    return [{ hostIp: port.hostIp, text }];
  });
  const at = mappings.filter(({ hostIp }) => hostIp.includes(':'));
  return [
    set(
      'map published6',
      `ipv6_addr . ${target}`,
      at.map(({ hostIp, text }) => `${hostIp} . ${text}`),
    ),
    set(
      'map published_everywhere6',
      target,
      mappings.filter(({ hostIp }) => hostIp === '').map(({ text }) => text),
    ),
  ];
}

/** The name servers of ours at the gateways' IPv6 addresses, in the same way as for IPv4. */
export function resolvers6(table: string, networks: readonly NetworkInUse[]): readonly string[] {
  const own = networks.flatMap(({ record }) => {
    const address = gatewayOf(record);
    if (address === undefined || namesOf(record) === undefined) return [];
    const at = `"${record.bridge}" . ${address}`;
    return [{ at, address, port: resolverPort(table, record.bridge) }];
  });
  return [
    set(
      'map resolver6',
      'ifname . ipv6_addr : ipv6_addr . inet_service',
      own.map(({ at, address, port }) => `${at} : ${address} . ${port}`),
    ),
    set(
      'set resolver_ports6',
      'ifname . ipv6_addr . inet_service',
      own.map(({ at, port }) => `${at} . ${port}`),
    ),
    rateSet('questions6', 'ipv6_addr'),
    set('set host_resolvers6', 'ifname . ipv6_addr', networks.flatMap(givenResolvers)),
  ];
}

/** Name servers that guests were given, which the host itself may be, and its address in the network. */
function givenResolvers({ record, claims }: NetworkInUse): readonly string[] {
  const gateway = gatewayOf(record);
  if (gateway === undefined) return [];
  const given = [...record.nameservers, ...claims.flatMap(({ dns }) => dns?.servers ?? [])]
    .map(parseIpv6)
    .filter((server) => server !== undefined)
    .map(formatIpv6);
  return [...new Set([gateway, ...given])].map((server) => `"${record.bridge}" . ${server}`);
}

function gatewayOf({ address6 = '' }: NetworkRecord): string | undefined {
  const six = parseAddress6(address6);
  return six && formatIpv6(six.address);
}

/** Global addresses are routed as they are, without translation. */
function isTranslated({ record }: NetworkInUse): boolean {
  const six = parseAddress6(record.address6 ?? '');
  return record.nat !== false && six !== undefined && isUniqueLocal(six.address);
}

/** Published ports where guests have addresses that are routed to them. */
function routedPorts(network: NetworkInUse): readonly string[] {
  if (isTranslated(network)) return [];
  return mappingsOf([network]).flatMap(({ claim, port, protocol }) =>
    claim.ip6 === undefined ? [] : [`${claim.ip6} . ${protocol} . ${port.guestPort}`],
  );
}
