import {
  contains,
  formatIpv6,
  isLinkLocal6,
  isOfOneMachine,
  isOfOneMachine6,
  type JobAddresses,
  listed,
  overlap6,
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
    doc: 'A fixed IPv4 address. In a managed network one that is taken is an error; left out, the driver chooses one, which tends to stay the same. On other bridges and with macvtap it goes with `prefix`.',
    example: '"192.168.122.50"',
  },
  ip6: {
    kind: 'attr',
    type: 'string',
    doc: 'A fixed IPv6 address. In a managed network with IPv6 one that is taken is an error; left out, it is at the same place in the network as the IPv4 address. On other bridges and with macvtap it goes with `prefix6`; without `ip` the guest has IPv6 only.',
    example: '"fd12:3456:789a::50"',
  },
  prefix: {
    kind: 'attr',
    type: 'number',
    min: 1,
    max: 31,
    doc: 'Prefix length of `ip` on a bridge that is not managed, or with macvtap; the guest is given both in its seed. Left out, the guest asks by DHCP there.',
    example: '24',
  },
  gateway: {
    kind: 'attr',
    type: 'string',
    doc: 'The gateway that goes with `ip` and `prefix`.',
    example: '"192.0.2.1"',
  },
  prefix6: {
    kind: 'attr',
    type: 'number',
    min: 1,
    max: 128,
    doc: 'Prefix length of `ip6` on a bridge that is not managed, or with macvtap; the guest is given both in its seed.',
    example: '64',
  },
  gateway6: {
    kind: 'attr',
    type: 'string',
    doc: 'The gateway that goes with `ip6` and `prefix6`, or its link-local address. Left out, the guest takes the default route that a router there announces.',
    example: '"2001:db8::1"',
  },
  nameservers: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'Name servers that go with `ip` and `prefix`, or with `ip6` and `prefix6`, those of IPv6 with the latter only. Those of the group’s `dns` block replace them.',
    example: '["192.0.2.53"]',
  },
} as const satisfies Fields;

const ofNone = 'is not the address of a machine in a network';

type Address = Decoded<typeof addressFields>;
interface Place {
  readonly path: string;
  readonly report: Job['report'];
}

/** Of an interface on a bridge: whether the driver manages it is not known yet. */
export function readAddress(address: Address, place: Place): JobAddresses {
  const { ip, prefix, gateway, nameservers } = address;
  check(address, place);
  check6(address, place);
  const six = readAddress6(address);
  if (ip === undefined) return six;
  if (prefix === undefined) return { ...six, ip };
  return { ...six, ip, fixed: { prefix, nameservers, ...(gateway !== undefined && { gateway }) } };
}

/** Of an interface in a network that is none of the driver's. */
export function readFixedAddress(address: Address, place: Place): JobAddresses {
  const { ip, ip6, prefix, gateway, nameservers, prefix6, gateway6 } = address;
  const refuse = (key: 'prefix' | 'prefix6', text: string): void => {
    const why = `is required with ${text}: the driver does not manage this network`;
    place.report(`${place.path}.${key}`, why);
  };
  // With the others it is required everywhere.
  const isBare = gateway === undefined && nameservers.length === 0 && prefix6 === undefined;
  if (ip !== undefined && prefix === undefined && isBare) refuse('prefix', 'ip');
  if (ip6 !== undefined && prefix6 === undefined && gateway6 === undefined) {
    refuse('prefix6', 'ip6');
  }
  return readAddress(address, place);
}

function readAddress6({
  ip,
  ip6 = '',
  prefix6,
  gateway6 = '',
  nameservers,
}: Address): JobAddresses {
  const address = parseIpv6(ip6);
  if (address === undefined) return {};
  const own = { ip6: formatIpv6(address) };
  if (prefix6 === undefined) return own;
  const way = parseIpv6(gateway6);
  return {
    ...own,
    fixed6: {
      prefix: prefix6,
      ...(way !== undefined && { gateway: formatIpv6(way) }),
      ...(ip === undefined && { nameservers: nameservers.map(inShortForm) }),
    },
  };
}

function inShortForm(server: string): string {
  const address = parseIpv6(server);
  return address === undefined ? server : formatIpv6(address);
}

/** Of an interface of another kind. */
export function refuseAddress(address: Address, { path, report }: Place, text: string): void {
  for (const key of ['ip', 'ip6', 'prefix', 'gateway', 'prefix6', 'gateway6'] as const) {
    if (address[key] !== undefined) report(`${path}.${key}`, text);
  }
  if (address.nameservers.length > 0) report(`${path}.nameservers`, text);
}

function check(address: Address, { path, report }: Place): void {
  const { ip, prefix, gateway, nameservers, prefix6 } = address;
  for (const [key, text] of Object.entries({ ip, gateway })) {
    if (text === undefined || parseIpv4(text) !== undefined) continue;
    report(`${path}.${key}`, `${quoted(text)} is not an IPv4 address`);
  }
  checkNameservers(address, { path, report });
  if (prefix !== undefined && ip === undefined) report(`${path}.prefix`, 'needs ip');
  const isOnly6 = ip === undefined && prefix6 !== undefined;
  const needPrefix = [
    ...(gateway === undefined ? [] : ['gateway']),
    ...(nameservers.length === 0 || isOnly6 ? [] : ['nameservers']),
    ...(prefix6 === undefined || isOnly6 ? [] : ['ip', 'prefix6']),
  ];
  if (prefix === undefined && needPrefix.length > 0) {
    report(`${path}.prefix`, `is required with ${listed(needPrefix)}`);
  }
  const [own, way] = [parseIpv4(ip ?? ''), parseIpv4(gateway ?? '')];
  // The host itself connects to it, for `ready` and ssh.
  if (own !== undefined && !isOfOneMachine(own)) report(`${path}.ip`, `${ip} ${ofNone}`);
  if (prefix === undefined || own === undefined || way === undefined) return;
  if (!contains(subnetOf(own, prefix), way)) {
    report(`${path}.gateway`, `${gateway} is not in the subnet of ${ip}/${prefix}`);
  } else if (own === way) {
    report(`${path}.gateway`, `${gateway} is the address of the guest itself`);
  }
}

function checkNameservers({ ip, ip6, prefix6, nameservers }: Address, place: Place): void {
  const isOnly6 = ip === undefined && prefix6 !== undefined;
  const families = [
    ...(isOnly6 ? [] : [{ name: 'IPv4', parse: parseIpv4 }]),
    ...(ip6 === undefined ? [] : [{ name: 'IPv6', parse: parseIpv6 }]),
  ];
  const kind = families.length === 1 ? families[0]?.name : 'IP';
  for (const [at, server] of nameservers.entries()) {
    if (families.some(({ parse }) => parse(server) !== undefined)) continue;
    place.report(`${place.path}.nameservers[${at}]`, `${quoted(server)} is not an ${kind} address`);
  }
}

function check6(address: Address, { path, report }: Place): void {
  const { ip6, prefix6, gateway6 } = address;
  for (const [key, text] of Object.entries({ ip6, gateway6 })) {
    if (text === undefined || parseIpv6(text) !== undefined) continue;
    report(`${path}.${key}`, `${quoted(text)} is not an IPv6 address`);
  }
  if (prefix6 !== undefined && ip6 === undefined) report(`${path}.prefix6`, 'needs ip6');
  if (prefix6 === undefined && gateway6 !== undefined) {
    report(`${path}.prefix6`, 'is required with gateway6');
  }
  const [own, way] = [parseIpv6(ip6 ?? ''), parseIpv6(gateway6 ?? '')];
  if (own !== undefined && !isOfOneMachine6(own)) report(`${path}.ip6`, `${ip6} ${ofNone}`);
  if (prefix6 === undefined || own === undefined || way === undefined) return;
  if (
    !isLinkLocal6(way) &&
    !overlap6({ address: own, prefix: prefix6 }, { address: way, prefix: 128 })
  ) {
    report(`${path}.gateway6`, `${gateway6} is not in the network of ${ip6}/${prefix6}`);
  } else if (own === way) {
    report(`${path}.gateway6`, `${gateway6} is the address of the guest itself`);
  }
}
