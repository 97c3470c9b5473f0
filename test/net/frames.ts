/** Frames as a guest hands them to its tap, with the virtio header that taps of ours carry. */
import { readSync, writeSync } from 'node:fs';

const virtioHeader = Buffer.alloc(10);
export const broadcastMac = 'ff:ff:ff:ff:ff:ff';
/** A bridge forwards nothing that is sent here: it hands it to the host. */
export const lldpMac = '01:80:c2:00:00:0e';

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

/** Who has `ip[1]`? */
export function arpQuestion(o: Pick<UdpFrame, 'mac' | 'ip'>): Buffer {
  const fixed = Buffer.from('0001080006040001', 'hex');
  const [from, to] = o.ip.map(octets);
  const parts = [fixed, macBytes(o.mac[0]), from, Buffer.alloc(6), to];
  return ethernet(o.mac, 0x0806, Buffer.concat(parts.filter((part) => part !== undefined)));
}

/** A DHCP question; `mac` is whose address it says it is about. */
export function dhcpQuestion(o: {
  readonly type: 'discover' | 'request';
  readonly mac: string;
  readonly wanted?: string;
}): Buffer {
  const fixed = Buffer.alloc(240);
  fixed.set([1, 1, 6]);
  fixed.writeUInt32BE(0x12345678, 4);
  fixed.set(macBytes(o.mac), 28);
  fixed.writeUInt32BE(0x63825363, 236);
  const wanted = o.wanted === undefined ? [] : [50, 4, ...octets(o.wanted)];
  return Buffer.concat([fixed, Buffer.of(53, 1, o.type === 'discover' ? 1 : 3, ...wanted, 255)]);
}

export function send(tapFd: number, frame: Uint8Array): void {
  writeSync(tapFd, Buffer.concat([virtioHeader, frame]));
}

/** What has come out of the tap until now. */
export function received(tapFd: number): readonly Buffer[] {
  const frames: Buffer[] = [];
  for (;;) {
    const bytes = Buffer.alloc(2048);
    try {
      frames.push(bytes.subarray(virtioHeader.length, readSync(tapFd, bytes)));
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

function ethernet([from, to]: UdpFrame['mac'], type: number, body: Uint8Array): Buffer {
  return Buffer.concat([macBytes(to), macBytes(from), Buffer.of(type >> 8, type & 0xff), body]);
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

function octets(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

function checksum(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}
