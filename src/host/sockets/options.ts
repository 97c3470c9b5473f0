import { must } from '../native/libc.ts';
import { protocolIcmp6 } from './numbers.ts';

const levelSocket = 1;
const levelIpv6 = 41;
const levelNetlink = 270;

export interface SocketOption {
  readonly level: number;
  readonly option: number;
}

/** The same on x86-64 and arm64. */
export const socketOptions = {
  reuseAddress: { level: levelSocket, option: 2 },
  broadcast: { level: levelSocket, option: 6 },
  reusePort: { level: levelSocket, option: 15 },
  bindToDevice: { level: levelSocket, option: 25 },
  ipv6Only: { level: levelIpv6, option: 26 },
  unicastHops: { level: levelIpv6, option: 16 },
  multicastHops: { level: levelIpv6, option: 18 },
  icmp6Filter: { level: protocolIcmp6, option: 1 },
  netlinkGroup: { level: levelNetlink, option: 1 },
} as const satisfies Readonly<Record<string, SocketOption>>;

/** `what` is being done, for the message. Throws HostError. */
export function setOption(
  fd: number,
  { level, option }: SocketOption,
  value: number | Buffer,
  what: string,
): void {
  const bytes = typeof value === 'number' ? int(value) : value;
  must(what, 'setsockopt', fd, level, option, bytes, bytes.length);
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
