/** Frames as a guest hands them to its tap. */
import { readSync, writeSync } from 'node:fs';

export const broadcastMac = 'ff:ff:ff:ff:ff:ff';
/** A bridge forwards nothing that is sent here: it hands it to the host. */
export const lldpMac = '01:80:c2:00:00:0e';

const ethernetBytes = 14;
const ipBytes = 20;

export interface UdpFrame {
  readonly mac: readonly [from: string, to: string];
  readonly ip: readonly [from: string, to: string];
  readonly port: readonly [from: number, to: number];
  readonly payload?: Uint8Array;
}

export function udpFrame({ mac, ip, port, payload = Buffer.from('?') }: UdpFrame): Buffer {
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(port[0], 0);
  udp.writeUInt16BE(port[1], 2);
  // Without a checksum, which IPv4 allows.
  udp.writeUInt16BE(8 + payload.length, 4);
  const header = Buffer.from('4500000000000000401100000000000000000000', 'hex');
  header.writeUInt16BE(28 + payload.length, 2);
  header.set(octets(ip[0]), 12);
  header.set(octets(ip[1]), 16);
  header.writeUInt16BE(checksum(header), 10);
  return ethernet(mac, 0x0800, Buffer.concat([header, udp, payload]));
}

/** The frame with VLAN tags before its type, the outer one first: 0x8100 is a customer's, 0x88a8 a provider's. */
export function tagged(frame: Buffer, ...types: readonly number[]): Buffer {
  const tags = types.map((type) => Buffer.of(type >> 8, type & 0xff, 0, 7));
  return Buffer.concat([frame.subarray(0, 12), ...tags, frame.subarray(12)]);
}

/** The IPv4 frame as two fragments, the first one with `bytes` of what follows the IP header. */
export function fragments(frame: Buffer, bytes: number): readonly [first: Buffer, rest: Buffer] {
  const at = ethernetBytes + ipBytes;
  const part = (from: number, to: number, last: boolean): Buffer => {
    const header = Buffer.from(frame.subarray(0, at));
    header.writeUInt16BE(ipBytes + to - from, ethernetBytes + 2);
    // In units of 8 bytes; the flag says that more fragments follow.
    header.writeUInt16BE((last ? 0 : 0x2000) | (from / 8), ethernetBytes + 6);
    header.writeUInt16BE(0, ethernetBytes + 10);
    header.writeUInt16BE(checksum(header.subarray(ethernetBytes)), ethernetBytes + 10);
    return Buffer.concat([header, frame.subarray(at + from, at + to)]);
  };
  return [part(0, bytes, false), part(bytes, frame.length - at, true)];
}

export interface TcpFrame extends Omit<UdpFrame, 'payload'> {
  readonly flags: 'syn' | 'syn-ack' | 'ack' | 'fin-ack';
  readonly sequence: number;
  readonly acknowledged: number;
}

const tcpFlags = { syn: 0x02, 'syn-ack': 0x12, ack: 0x10, 'fin-ack': 0x11 } as const;

/** A TCP segment without data, with its checksum: connections are tracked by sound segments only. */
export function tcpFrame({ mac, ip, port, ...o }: TcpFrame): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(port[0], 0);
  tcp.writeUInt16BE(port[1], 2);
  tcp.writeUInt32BE(o.sequence, 4);
  tcp.writeUInt32BE(o.acknowledged, 8);
  tcp[12] = 0x50;
  tcp[13] = tcpFlags[o.flags];
  tcp.writeUInt16BE(0xffff, 14);
  const addresses = Buffer.from([...octets(ip[0]), ...octets(ip[1])]);
  const pseudo = Buffer.from([...addresses, 0, 6, 0, tcp.length]);
  tcp.writeUInt16BE(checksum(Buffer.concat([pseudo, tcp])), 16);
  const header = Buffer.from('4500002800000000400600000000000000000000', 'hex');
  header.set(addresses, 12);
  header.writeUInt16BE(checksum(header), 10);
  return ethernet(mac, 0x0800, Buffer.concat([header, tcp]));
}

/** Who has `ip[1]`? */
export function arpQuestion(o: Pick<UdpFrame, 'mac' | 'ip'>): Buffer {
  const fixed = Buffer.from('0001080006040001', 'hex');
  const [from, to] = o.ip.map(octets);
  const parts = [fixed, macBytes(o.mac[0]), from, Buffer.alloc(6), to];
  return ethernet(o.mac, 0x0806, Buffer.concat(parts.filter((part) => part !== undefined)));
}

const dhcpTypes = { discover: 1, request: 3, inform: 8 } as const;

/** A DHCP question; `mac` is whose address it says it is about, `has` the address that it says to have. */
export function dhcpQuestion(o: {
  readonly type: keyof typeof dhcpTypes;
  readonly mac: string;
  readonly wanted?: string;
  readonly has?: string;
}): Buffer {
  const fixed = Buffer.alloc(240);
  if (o.has !== undefined) fixed.set(octets(o.has), 12);
  fixed.set([1, 1, 6]);
  fixed.writeUInt32BE(0x12345678, 4);
  fixed.set(macBytes(o.mac), 28);
  fixed.writeUInt32BE(0x63825363, 236);
  const wanted = o.wanted === undefined ? [] : [50, 4, ...octets(o.wanted)];
  return Buffer.concat([fixed, Buffer.of(53, 1, dhcpTypes[o.type], ...wanted, 255)]);
}

/**
 * A frame with the header that taps with offloads take: at `at` two bytes are to be filled in with the checksum of what
 * begins at byte 20, and the last two of the frame, or of its padding, are such that it comes out as `value`.
 */
export function withForgedChecksum(frame: Buffer, at: number, value: number): Buffer {
  const start = 20;
  const whole = Buffer.concat([frame, Buffer.alloc(Math.max(0, 62 - frame.length))]);
  const end = whole.length - 2;
  whole.writeUInt16BE(0, end);
  // Ones' complement: what is still missing to the sum whose complement is the value.
  const missing = (checksum(whole.subarray(start)) + 0xffff - value) % 0xffff;
  whole.writeUInt16BE(missing, end);
  const header = Buffer.alloc(10);
  header[0] = 1; // VIRTIO_NET_HDR_F_NEEDS_CSUM
  header.writeUInt16LE(start, 6);
  header.writeUInt16LE(at - start, 8);
  return Buffer.concat([header, whole]);
}

export function send(tapFd: number, frame: Uint8Array): void {
  writeSync(tapFd, frame);
}

/** What has come out of the tap until now. */
export function received(tapFd: number): readonly Buffer[] {
  const frames: Buffer[] = [];
  for (;;) {
    const bytes = Buffer.alloc(2048);
    try {
      frames.push(bytes.subarray(0, readSync(tapFd, bytes)));
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return frames;
      throw error;
    }
  }
}

/** The port a UDP frame is for; undefined for other frames. */
export function portOf(frame: Buffer): number | undefined {
  const isUdp = frame.length >= 42 && frame.readUInt16BE(12) === 0x0800 && frame[23] === 17;
  return isUdp ? frame.readUInt16BE(36) : undefined;
}

/** Whether it answers an ARP question. */
export function isArpAnswer(frame: Buffer): boolean {
  return frame.readUInt16BE(12) === 0x0806 && frame.readUInt16BE(20) === 2;
}

export function ethernet([from, to]: UdpFrame['mac'], type: number, body: Uint8Array): Buffer {
  return Buffer.concat([macBytes(to), macBytes(from), Buffer.of(type >> 8, type & 0xff), body]);
}

export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

function octets(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

export function checksum(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}
