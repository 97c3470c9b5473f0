import { isIP } from 'node:net';
import { HostError } from '../error.ts';
import { families } from './numbers.ts';

/** A `struct sockaddr_in` or `sockaddr_in6`: the family, then port and address in network order. */
export function socketAddress(address: string, port: number): Buffer {
  const version = isIP(address);
  if (version === 0 || address.includes('%')) throw new HostError(`not an IP address: ${address}`);
  const target = Buffer.alloc(version === 4 ? 16 : 28);
  target.writeUInt16LE(version === 4 ? families.inet : families.inet6, 0);
  target.writeUInt16BE(port, 2);
  if (version === 4) target.set(address.split('.').map(Number), 4);
  else target.set(ipv6Bytes(address), 8);
  return target;
}

function ipv6Bytes(address: string): Buffer {
  // The URL parser writes an IPv4 address at the end as hexadecimal groups, like the others.
  const [head = '', tail = ''] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const [first, last] = [head, tail].map((part) => part.split(':').filter((it) => it !== ''));
  const zeros = Array(8 - (first?.length ?? 0) - (last?.length ?? 0)).fill('0');
  const groups = [...(first ?? []), ...zeros, ...(last ?? [])];
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex');
}
