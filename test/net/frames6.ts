/** IPv6 frames as a guest hands them to its tap. */
import { formatIpv6, parseIpv6 } from '#spec';
import { checksum, ethernet, macBytes } from './frames.ts';

/** The multicast addresses of all hosts on a link, and of all DHCPv6 servers. */
export const allNodes = 'ff02::1';
export const allServers = 'ff02::1:2';

export interface Ends {
  readonly mac: readonly [from: string, to: string];
  readonly ip: readonly [from: string, to: string];
}

/** What an IPv6 packet contains: the number of its protocol, and bytes that are made for two addresses. */
export interface Content {
  readonly protocol: number;
  bytes(ip: Ends['ip']): Buffer;
}

const icmp = 58;
/** The ends of neighbour discovery have crossed no router, which this hop limit shows. */
const hopLimit = 255;

export function frame6({ mac, ip }: Ends, { protocol, bytes }: Content): Buffer {
  const payload = bytes(ip);
  const header = Buffer.alloc(8);
  header[0] = 0x60;
  header.writeUInt16BE(payload.length, 4);
  header.set([protocol, hopLimit], 6);
  return ethernet(mac, 0x86dd, Buffer.concat([header, ...ip.map(address), payload]));
}

export function udp(ports: readonly [number, number], data = Buffer.from('?')): Content {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(ports[0], 0);
  header.writeUInt16BE(ports[1], 2);
  header.writeUInt16BE(8 + data.length, 4);
  return summed(17, Buffer.concat([header, data]), 6);
}

/** A segment that opens a connection. */
export function syn(ports: readonly [number, number]): Content {
  const header = Buffer.alloc(20);
  header.writeUInt16BE(ports[0], 0);
  header.writeUInt16BE(ports[1], 2);
  header.set([0x50, 0x02, 0xff, 0xff], 12);
  return summed(6, header, 16);
}

/** Any message of ICMPv6, with what follows its checksum. */
export function icmpMessage(type: number, body: Buffer = Buffer.alloc(4)): Content {
  return summed(icmp, Buffer.concat([Buffer.of(type, 0, 0, 0), body]), 2);
}

/** Options of neighbour discovery that contain a MAC address: that of the sender, or of the target. */
export const macOption = (kind: 'source' | 'target', mac: string): Buffer =>
  Buffer.concat([Buffer.of(kind === 'source' ? 1 : 2, 1), macBytes(mac)]);

/** Who has this address? */
export function solicitation(target: string, option: Buffer = Buffer.alloc(0)): Content {
  return icmpMessage(135, Buffer.concat([Buffer.alloc(4), address(target), option]));
}

/** I have this address: an answer that overrides what the receiver knows. */
export function advertisement(target: string, option: Buffer = Buffer.alloc(0)): Content {
  return icmpMessage(136, Buffer.concat([Buffer.of(0x60, 0, 0, 0), address(target), option]));
}

/** I am a router, for half an hour. */
export function routerAdvertisement(): Content {
  return icmpMessage(134, Buffer.from('4000070800000000000000000'.padEnd(24, '0'), 'hex'));
}

/** Extension headers, by the number that the header before them has for them. */
const extension = { hops: 0, routing: 43, fragment: 44, options: 60 } as const;

/** The content behind an extension header of eight bytes without any meaning. */
export function behind(header: 'hops' | 'routing' | 'options', inner: Content): Content {
  // Two bytes of padding options follow the numbers, or the routing header's type and a count of zero.
  const rest = header === 'routing' ? [0, 0, 0, 0, 0, 0] : [1, 4, 0, 0, 0, 0];
  return {
    protocol: extension[header],
    bytes: (ip) => Buffer.concat([Buffer.of(inner.protocol, 0, ...rest), inner.bytes(ip)]),
  };
}

/** A piece of the content, as fragment: from a byte that eight divides, to the end when left out. */
export function fragment(inner: Content, from: number, to?: number): Content {
  const header = Buffer.alloc(8);
  header[0] = inner.protocol;
  header.writeUInt16BE(from | (to === undefined ? 0 : 1), 2);
  header.writeUInt32BE(0x12345678, 4);
  return {
    protocol: extension.fragment,
    bytes: (ip) => Buffer.concat([header, inner.bytes(ip).subarray(from, to)]),
  };
}

/** The port that a plain UDP frame is for; undefined for other frames. */
export function portOf6(frame: Buffer): number | undefined {
  const isUdp = frame.length >= 62 && frame.readUInt16BE(12) === 0x86dd && frame[20] === 17;
  return isUdp ? frame.readUInt16BE(56) : undefined;
}

/** Who sent an IPv6 frame; undefined for other frames. */
export function senderOf6(frame: Buffer): string | undefined {
  if (frame.length < 54 || frame.readUInt16BE(12) !== 0x86dd) return undefined;
  return formatIpv6(BigInt(`0x${frame.toString('hex', 22, 38)}`));
}

function summed(protocol: number, body: Buffer, at: number): Content {
  return {
    protocol,
    bytes: (ip) => {
      const pseudo = Buffer.alloc(8);
      pseudo.writeUInt32BE(body.length, 0);
      pseudo[7] = protocol;
      const even = Buffer.alloc(body.length % 2);
      const sum = checksum(Buffer.concat([...ip.map(address), pseudo, body, even]));
      const filled = Buffer.from(body);
      filled.writeUInt16BE(sum, at);
      return filled;
    },
  };
}

function address(text: string): Buffer {
  return Buffer.from((parseIpv6(text) ?? 0n).toString(16).padStart(32, '0'), 'hex');
}
