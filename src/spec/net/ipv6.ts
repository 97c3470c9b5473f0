import { isLoopback, parseIpv4 } from './ipv4.ts';

/** IPv6 addresses as 128-bit numbers, so that prefixes are arithmetic. */

const bits = 128;
const groupCount = 8;

/** Text → number, in every form of RFC 4291, 2.2; undefined when it is none, as with a zone (`fe80::1%eth0`). */
export function parseIpv6(text: string): bigint | undefined {
  const halves = text.split('::').map(parseGroups);
  const [head, tail] = halves;
  if (head === undefined || halves.length > 2) return undefined;
  if (halves.length === 1) return head.length === groupCount ? toNumber(head) : undefined;
  if (tail === undefined || head.length + tail.length >= groupCount) return undefined;
  const zeros = Array<number>(groupCount - head.length - tail.length).fill(0);
  return toNumber([...head, ...zeros, ...tail]);
}

/** The text of RFC 5952: lower case, the longest row of zeros left out, the first of several. */
export function formatIpv6(address: bigint): string {
  const groups = Array.from({ length: groupCount }, (_, at) =>
    Number((address >> BigInt(16 * (groupCount - 1 - at))) & 0xffffn).toString(16),
  ).join(':');
  const rows = [...groups.matchAll(/\b0(:0)+\b/g)];
  const longest = Math.max(...rows.map(([row]) => row.length));
  const found = rows.find(([row]) => row.length === longest);
  if (found === undefined) return groups;
  const before = groups.slice(0, found.index).replace(/:$/, '');
  const after = groups.slice(found.index + longest).replace(/^:/, '');
  return `${before}::${after}`;
}

/** An address and the length of the prefix of its network. */
export interface Address6 {
  readonly address: bigint;
  readonly prefix: number;
}

/** `fd00::1/64` → its parts; undefined when it is none. */
export function parseAddress6(text: string): Address6 | undefined {
  const [, written = '', length = ''] = /^([^/]*)\/(0|[1-9]\d{0,2})$/.exec(text) ?? [];
  const address = parseIpv6(written);
  const prefix = Number(length);
  return address === undefined || prefix > bits ? undefined : { address, prefix };
}

export function formatAddress6({ address, prefix }: Address6): string {
  return `${formatIpv6(address)}/${prefix}`;
}

/** The first address of a network. */
export function network6({ address, prefix }: Address6): bigint {
  const host = BigInt(bits - prefix);
  return (address >> host) << host;
}

/** Whether two networks share addresses, in which case one contains the other. */
export function overlap6(one: Address6, other: Address6): boolean {
  const prefix = Math.min(one.prefix, other.prefix);
  return network6({ ...one, prefix }) === network6({ ...other, prefix });
}

/** fc00::/7: addresses that no router of the Internet knows. */
export function isUniqueLocal(address: bigint): boolean {
  return address >> 121n === 0xfcn >> 1n;
}

/** 2000::/3, the addresses of the Internet. */
export function isGlobal(address: bigint): boolean {
  return address >> 125n === 1n;
}

/** fe80::/10: addresses that lead to the neighbours on one link only. */
export function isLinkLocal6(address: bigint): boolean {
  return address >> 118n === 0xfe80n >> 6n;
}

/** Whether a machine may have it on a network: not one in ::/8, as the loopback address and those that stand for IPv4 ones, nor of many. */
export function isOfOneMachine6(address: bigint): boolean {
  const first = address >> 120n;
  return first !== 0n && first !== 0xffn;
}

/** Whether a text is an address, of either family, that leads to the machine itself. */
export function isLoopbackText(text: string): boolean {
  const four = parseIpv4(text);
  return four === undefined ? parseIpv6(text) === 1n : isLoopback(four);
}

/** A link that carries less than this has no IPv6 (RFC 8200, 5). */
export const smallestMtu6 = 1280;

/** The link-local address that a MAC address stands for (RFC 4291, appendix A). */
export function linkLocalOf(mac: string): bigint {
  const bytes = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  const [first = 0, second = 0, third = 0, ...rest] = bytes;
  const id = [first ^ 0x02, second, third, 0xff, 0xfe, ...rest];
  return id.reduce((value, byte) => (value << 8n) | BigInt(byte), 0xfe80n << 48n);
}

/** [] for no text at all, as on both sides of `::`. An IPv4 address may stand for the last two groups. */
function parseGroups(text: string, half: number, halves: readonly string[]): number[] | undefined {
  if (text === '') return halves.length === 1 ? undefined : [];
  const words = text.split(':');
  const groups = words.flatMap((word, at) => {
    if (/^[0-9a-f]{1,4}$/i.test(word)) return [Number.parseInt(word, 16)];
    const isLast = at === words.length - 1 && half === halves.length - 1;
    const octets = isLast ? /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(word) : null;
    const [a = NaN, b = NaN, c = NaN, d = NaN] = octets?.slice(1).map(octet) ?? [];
    return [a * 256 + b, c * 256 + d];
  });
  return groups.some(Number.isNaN) ? undefined : groups;
}

function octet(text: string): number {
  return /^(0|[1-9]\d*)$/.test(text) && Number(text) < 256 ? Number(text) : NaN;
}

function toNumber(groups: readonly number[]): bigint {
  return groups.reduce((value, group) => (value << 16n) | BigInt(group), 0n);
}
