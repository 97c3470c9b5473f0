import { formatIpv6, parseIpv6 } from '#spec';

/** Address families: AF_INET and AF_INET6. */
export const family = { unspecified: 0, inet: 2, inet6: 10 } as const;

/** The text of an IPv4 or IPv6 address; undefined when there are not as many bytes. */
export function addressText(bytes: Buffer | undefined): string | undefined {
  if (bytes?.length === 4) return bytes.join('.');
  return bytes?.length === 16 ? formatIpv6(BigInt(`0x${bytes.toString('hex')}`)) : undefined;
}

export function addressBytes(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  return Buffer.from((parseIpv6(address) ?? 0n).toString(16).padStart(32, '0'), 'hex');
}

export function familyOf(address: string): number {
  return address.includes(':') ? family.inet6 : family.inet;
}
