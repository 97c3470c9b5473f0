import {
  type BridgeNic,
  contains,
  formatIpv6,
  listed,
  parseIpv4,
  parseIpv6,
  quoted,
  subnetOf,
} from '#spec';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';

/** The guest's address, and what belongs to it on a bridge that the driver does not manage. */
export const addressFields = {
  ip: {
    kind: 'attr',
    type: 'string',
    doc: 'A fixed IPv4 address. In a managed network one that is taken is an error; left out, the driver chooses one, which tends to stay the same. On other bridges it goes with `prefix`.',
    example: '"192.168.122.50"',
  },
  ip6: {
    kind: 'attr',
    type: 'string',
    doc: 'A fixed IPv6 address in a managed network with IPv6; one that is taken is an error. Left out, it is at the same place in the network as the IPv4 address.',
    example: '"fd12:3456:789a::50"',
  },
  prefix: {
    kind: 'attr',
    type: 'number',
    min: 1,
    max: 31,
    doc: 'Prefix length of `ip` on a bridge that is not managed; the guest is given both in its seed. Left out, the guest asks by DHCP there.',
    example: '24',
  },
  gateway: {
    kind: 'attr',
    type: 'string',
    doc: 'The gateway that goes with `ip` and `prefix`.',
    example: '"192.0.2.1"',
  },
  nameservers: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'IPv4 name servers that go with `ip` and `prefix`. Those of the group’s `dns` block replace them.',
    example: '["192.0.2.53"]',
  },
} as const satisfies Fields;

type Address = Decoded<typeof addressFields>;
interface Place {
  readonly path: string;
  readonly report: Job['report'];
}

/** Of an interface on a bridge. */
export function readAddress(
  address: Address,
  place: Place,
): Pick<BridgeNic, 'ip' | 'ip6' | 'fixed'> {
  const { ip, prefix, gateway, nameservers } = address;
  checkAddress(address, place);
  const six = readAddress6(address, place);
  if (ip === undefined) return six;
  if (prefix === undefined) return { ...six, ip };
  return { ...six, ip, fixed: { prefix, nameservers, ...(gateway !== undefined && { gateway }) } };
}

function readAddress6({ ip6 }: Address, { path, report }: Place): Pick<BridgeNic, 'ip6'> {
  if (ip6 === undefined) return {};
  const address = parseIpv6(ip6);
  if (address !== undefined) return { ip6: formatIpv6(address) };
  report(`${path}.ip6`, `${quoted(ip6)} is not an IPv6 address`);
  return {};
}

/** Of an interface of another kind. */
export function refuseAddress(address: Address, { path, report }: Place, text: string): void {
  for (const key of ['ip', 'ip6', 'prefix', 'gateway'] as const) {
    if (address[key] !== undefined) report(`${path}.${key}`, text);
  }
  if (address.nameservers.length > 0) report(`${path}.nameservers`, text);
}

function checkAddress(address: Address, { path, report }: Place): void {
  const { ip, prefix, gateway, nameservers } = address;
  const texts = [
    ['ip', ip],
    ['gateway', gateway],
    ...nameservers.map((server, at) => [`nameservers[${at}]`, server] as const),
  ] as const;
  for (const [key, text] of texts) {
    if (text === undefined || parseIpv4(text) !== undefined) continue;
    report(`${path}.${key}`, `${quoted(text)} is not an IPv4 address`);
  }
  if (prefix !== undefined && ip === undefined) report(`${path}.prefix`, 'needs ip');
  const needPrefix = [
    ...(gateway === undefined ? [] : ['gateway']),
    ...(nameservers.length === 0 ? [] : ['nameservers']),
  ];
  if (prefix === undefined && needPrefix.length > 0) {
    report(`${path}.prefix`, `is required with ${listed(needPrefix)}`);
  }
  const [own, way] = [parseIpv4(ip ?? ''), parseIpv4(gateway ?? '')];
  if (prefix === undefined || own === undefined || way === undefined) return;
  if (!contains(subnetOf(own, prefix), way)) {
    report(`${path}.gateway`, `${gateway} is not in the subnet of ${ip}/${prefix}`);
  } else if (own === way) {
    report(`${path}.gateway`, `${gateway} is the address of the guest itself`);
  }
}
