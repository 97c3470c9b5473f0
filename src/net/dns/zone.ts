import {
  type Address6,
  contains,
  formatIpv6,
  overlap6,
  parseAddress6,
  parseIpv4,
  parseIpv6,
  type Subnet,
} from '#spec';
import type { Claim } from '../store/claim.ts';
import { networkSubnet } from '../store/subnets.ts';
import { type DnsAnswer, type DnsQuestion, rcode, recordType } from './message.ts';

/** The names of one network's guests. */
export interface Zone {
  readonly domain: string;
  readonly subnet: Subnet;
  /** The network's prefix of IPv6. */
  readonly six: Address6 | undefined;
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
const reverseDomain6 = '.ip6.arpa';
const nibbles6 = 32;

export function makeZone(
  network: {
    readonly domain: string;
    readonly address: string;
    readonly prefix: number;
    readonly address6?: string;
  },
  claims: readonly Claim[],
): Zone {
  const named = claims
    .map((claim) => ({ name: claim.hostname.toLowerCase(), ip: claim.ip, ip6: six(claim) }))
    .filter(({ name }) => name !== '' && !reserved.has(name));
  const groups = Map.groupBy(named, ({ name }) => name);
  return {
    domain: network.domain,
    subnet: networkSubnet(network),
    six: parseAddress6(network.address6 ?? ''),
    guests: new Set(claims.flatMap((claim) => [claim.ip, ...six(claim)])),
    addresses: new Map(
      [...groups].map(([name, of]) => [
        name,
        { A: of.map(({ ip }) => ip), AAAA: of.flatMap(({ ip6 }) => ip6) },
      ]),
    ),
    names: new Map(named.flatMap(({ name, ip, ip6 }) => [ip, ...ip6].map((at) => [at, name]))),
  };
}

/** In the one way in which the system writes the address of a sender. */
function six({ ip6 = '' }: Claim): readonly string[] {
  const address = parseIpv6(ip6);
  return address === undefined ? [] : [formatIpv6(address)];
}

/** The network's own answer; undefined for what other name servers are to be asked. */
export function answerFrom(zone: Zone, question: DnsQuestion): DnsAnswer | undefined {
  const { name } = question;
  if (name.endsWith(reverseDomain) || name.endsWith(reverseDomain6)) {
    return answerReverse(zone, question);
  }
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
  const ip = name.endsWith(reverseDomain6) ? asked6(zone, name) : asked4(zone, name);
  if (ip === undefined) return undefined;
  const above = name.slice(name.indexOf('.') + 1);
  const host = zone.names.get(ip);
  if (host === undefined) return missing(above, rcode.unknownName);
  if (type !== recordType.ptr && type !== recordType.any) return missing(above, rcode.ok);
  const data = `${host}.${zone.domain}`;
  const answers = [{ type: 'PTR', name, ttl: ttlSeconds, data } as const];
  return { code: rcode.ok, answers, authorities: [] };
}

/** The address that a name stands for; undefined for what is no address of the network. */
function asked4({ subnet }: Zone, name: string): string | undefined {
  const ip = name.slice(0, -reverseDomain.length).split('.').toReversed().join('.');
  const address = parseIpv4(ip);
  return address !== undefined && contains(subnet, address) ? ip : undefined;
}

/** The same for IPv6, where a name has a label for each four bits (RFC 3596, 2.5). */
function asked6({ six: network }: Zone, name: string): string | undefined {
  const labels = name.slice(0, -reverseDomain6.length).split('.');
  const isWhole = labels.length === nibbles6 && labels.every((each) => /^[0-9a-f]$/.test(each));
  if (!isWhole || network === undefined) return undefined;
  const address = BigInt(`0x${labels.toReversed().join('')}`);
  return overlap6(network, { address, prefix: 128 }) ? formatIpv6(address) : undefined;
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
