import { contains, parseIpv4, type Subnet } from '#spec';
import type { Claim } from '../store/claim.ts';
import { networkSubnet } from '../store/subnets.ts';
import { type DnsAnswer, type DnsQuestion, rcode, recordType } from './message.ts';

/** The names of one network's guests. */
export interface Zone {
  readonly domain: string;
  readonly subnet: Subnet;
  /** The addresses of all guests: nothing else is answered. */
  readonly guests: ReadonlySet<string>;
  /** Host name in lower case → addresses. Guests of one job may have a name in common. */
  readonly addresses: ReadonlyMap<string, HostAddresses>;
  /** Address → host name. */
  readonly names: ReadonlyMap<string, string>;
}

/** By the type of their records. */
interface HostAddresses {
  readonly A: readonly string[];
  readonly AAAA: readonly string[];
}

// A VM that is started again has the same address; one that is gone should not be waited for.
const ttlSeconds = 30;
// A guest that looks for another one before that is started finds it soon.
const unknownSeconds = 5;
const maxAddresses = 16;
// Names that programs look up by themselves: a job must not be able to become a proxy, a tunnel or a "local" host of others.
const reserved = new Set(['localhost', 'wpad', 'isatap']);
const reverseDomain = '.in-addr.arpa';

export function makeZone(
  network: { readonly domain: string; readonly address: string; readonly prefix: number },
  claims: readonly Claim[],
): Zone {
  const named = claims
    .map(({ hostname, ip, ip6 }) => ({ name: hostname.toLowerCase(), ip, ip6 }))
    .filter(({ name }) => name !== '' && !reserved.has(name));
  const groups = Map.groupBy(named, ({ name }) => name);
  return {
    domain: network.domain,
    subnet: networkSubnet(network),
    guests: new Set(claims.map(({ ip }) => ip)),
    addresses: new Map(
      [...groups].map(([name, of]) => [
        name,
        { A: of.map(({ ip }) => ip), AAAA: of.flatMap(({ ip6 }) => ip6 ?? []) },
      ]),
    ),
    names: new Map(named.map(({ name, ip }) => [ip, name])),
  };
}

/** The network's own answer; undefined for what other name servers are to be asked. */
export function answerFrom(zone: Zone, question: DnsQuestion): DnsAnswer | undefined {
  const { name } = question;
  if (name.endsWith(reverseDomain)) return answerReverse(zone, question);
  const inDomain = name.endsWith(`.${zone.domain}`);
  const host = inDomain ? name.slice(0, -zone.domain.length - 1) : name;
  const addresses = zone.addresses.get(host);
  if (addresses !== undefined) return answerHost(zone, question, addresses);
  if (name === zone.domain) return missing(zone.domain, rcode.ok);
  // Never asked elsewhere: names of the network are private to it.
  return inDomain ? missing(zone.domain, rcode.unknownName) : undefined;
}

function answerHost(
  { domain }: Zone,
  { name, type: asked, id }: DnsQuestion,
  addresses: HostAddresses,
): DnsAnswer {
  const answers = (['A', 'AAAA'] as const).flatMap((type) => {
    const isAsked = asked === recordType.any || asked === recordType[type === 'A' ? 'a' : 'aaaa'];
    const turned = isAsked ? turn(addresses[type], id).slice(0, maxAddresses) : [];
    return turned.map((data) => ({ type, name, ttl: ttlSeconds, data }));
  });
  // A name that is known but has no such record exists all the same: RFC 2308, 2.2.
  return answers.length === 0
    ? missing(domain, rcode.ok)
    : { code: rcode.ok, answers, authorities: [] };
}

function turn(addresses: readonly string[], id: number): readonly string[] {
  const first = id % Math.max(1, addresses.length);
  return [...addresses.slice(first), ...addresses.slice(0, first)];
}

function answerReverse(zone: Zone, { name, type }: DnsQuestion): DnsAnswer | undefined {
  const ip = name.slice(0, -reverseDomain.length).split('.').toReversed().join('.');
  const address = parseIpv4(ip);
  if (address === undefined || !contains(zone.subnet, address)) return undefined;
  const above = name.slice(name.indexOf('.') + 1);
  const host = zone.names.get(ip);
  if (host === undefined) return missing(above, rcode.unknownName);
  if (type !== recordType.ptr && type !== recordType.any) return missing(above, rcode.ok);
  const data = `${host}.${zone.domain}`;
  const answers = [{ type: 'PTR', name, ttl: ttlSeconds, data } as const];
  return { code: rcode.ok, answers, authorities: [] };
}

/** The record of the zone states how long the absence may be remembered (RFC 2308, 3). */
function missing(zone: string, code: DnsAnswer['code']): DnsAnswer {
  const data = {
    mname: zone,
    rname: `hostmaster.${zone}`,
    serial: 1,
    refresh: 3600,
    retry: 600,
    expire: 86_400,
    minimum: unknownSeconds,
  };
  const record = { type: 'SOA', name: zone, ttl: unknownSeconds, data } as const;
  return { code, answers: [], authorities: [record] };
}
