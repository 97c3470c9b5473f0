import { parseIpv4 } from '#spec';
import { resolverPort } from '../model/names.ts';
import { type NetworkInUse, namesOf } from '../store/claim.ts';
import { isMetadata } from './metadata.ts';
import { rateSet, set } from './nft-text.ts';
import { resolvers6 } from './ruleset6.ts';

/** Name servers of guests that they would not reach without a rule: clouds have theirs beside their metadata. */
export function cloudResolvers({
  record: { bridge, nameservers },
}: NetworkInUse): readonly string[] {
  const servers = nameservers.filter(isMetadata);
  return [...new Set(servers.map((server) => `"${bridge}" . ${server}`))];
}

/** The name servers of ours: where guests' questions to the gateway are led, and what the host accepts there. */
export function resolvers(table: string, networks: readonly NetworkInUse[]): string[] {
  const own = networks
    .filter(({ record }) => namesOf(record) !== undefined)
    .map(({ record: { bridge, address } }) => {
      const port = resolverPort(table, bridge);
      return { bridge: `"${bridge}"`, address, port };
    });
  return [
    set(
      'map resolver',
      'ifname . ipv4_addr : ipv4_addr . inet_service',
      own.map(({ bridge, address, port }) => `${bridge} . ${address} : ${address} . ${port}`),
    ),
    set(
      'set resolver_ports',
      'ifname . ipv4_addr . inet_service',
      own.map(({ bridge, address, port }) => `${bridge} . ${address} . ${port}`),
    ),
    rateSet('questions', 'ipv4_addr'),
    set('set host_resolvers', 'ifname . ipv4_addr', networks.flatMap(givenResolvers)),
    ...resolvers6(table, networks),
  ];
}

/** Name servers that guests were given, which the host itself may be, and its address in the network. */
function givenResolvers({ record, claims }: NetworkInUse): readonly string[] {
  const { bridge, address, nameservers } = record;
  const ofJobs = claims.flatMap(({ dns }) => dns?.servers ?? []);
  const given = [address, ...nameservers, ...ofJobs].filter(
    (server) => parseIpv4(server) !== undefined,
  );
  return [...new Set(given)].map((server) => `"${bridge}" . ${server}`);
}
