import { encodeDomains } from './domains.ts';

/** DHCP for IPv4 as bytes (RFC 2131, options RFC 2132): messages of clients and replies of a server. */

export type DhcpType =
  | 'discover'
  | 'offer'
  | 'request'
  | 'decline'
  | 'ack'
  | 'nak'
  | 'release'
  | 'inform';

/** A message from a client. Addresses are dotted decimal; 0.0.0.0 is "none". */
export interface DhcpQuery {
  readonly type: DhcpType;
  readonly transaction: number;
  readonly broadcast: boolean;
  /** The address the client has and answers ARP for. */
  readonly clientAddress: string;
  /** Set by a relay agent. */
  readonly relayAddress: string;
  readonly mac: string;
  readonly requestedAddress: string | undefined;
  readonly serverId: string | undefined;
  readonly clientId: Uint8Array | undefined;
}

/** A message to a client. Options that are undefined or empty are left out. */
export interface DhcpReply {
  readonly type: 'offer' | 'ack' | 'nak';
  readonly transaction: number;
  readonly broadcast: boolean;
  readonly clientAddress: string;
  readonly yourAddress: string;
  readonly mac: string;
  readonly serverId: string;
  readonly clientId: Uint8Array | undefined;
  readonly lease: DhcpLease | undefined;
}

export interface DhcpLease {
  /** undefined in the answer to an INFORM: the client has its address from elsewhere. */
  readonly leaseSeconds: number | undefined;
  readonly subnetMask: string;
  readonly broadcastAddress: string;
  readonly router: string | undefined;
  readonly nameservers: readonly string[];
  /** Domains to try for names without dots. */
  readonly searches: readonly string[];
  readonly hostname: string | undefined;
  readonly mtu: number | undefined;
}

const types: readonly DhcpType[] = [
  'discover',
  'offer',
  'request',
  'decline',
  'ack',
  'nak',
  'release',
  'inform',
];
const option = {
  pad: 0,
  subnetMask: 1,
  router: 3,
  nameservers: 6,
  hostname: 12,
  domain: 15,
  mtu: 26,
  broadcastAddress: 28,
  requestedAddress: 50,
  leaseSeconds: 51,
  type: 53,
  serverId: 54,
  clientId: 61,
  searches: 119,
  end: 255,
} as const;

const fixedBytes = 240;
const cookieAt = 236;
const cookie = 0x63825363;
const ethernet = 1;
const bootRequest = 1;
const bootReply = 2;
const broadcastFlag = 0x8000;
// BOOTP's size: some old clients drop anything shorter.
const minReplyBytes = 300;
const maxQueryBytes = 1500;
const maxOptionBytes = 255;

/** undefined for anything that isn't a well-formed DHCP message from an Ethernet client. */
export function decodeQuery(datagram: Uint8Array): DhcpQuery | undefined {
  const bytes = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  if (bytes.length < fixedBytes || bytes.length > maxQueryBytes) return undefined;
  if (bytes[0] !== bootRequest || bytes[1] !== ethernet || bytes[2] !== 6) return undefined;
  if (bytes.readUInt32BE(cookieAt) !== cookie) return undefined;
  const options = decodeOptions(bytes.subarray(fixedBytes));
  if (options === undefined) return undefined;
  const code = options.get(option.type);
  const type = code?.length === 1 ? types[(code[0] ?? 0) - 1] : undefined;
  if (type === undefined) return undefined;
  return {
    type,
    transaction: bytes.readUInt32BE(4),
    broadcast: (bytes.readUInt16BE(10) & broadcastFlag) !== 0,
    clientAddress: dotted(bytes.subarray(12, 16)),
    relayAddress: dotted(bytes.subarray(24, 28)),
    mac: bytes.toString('hex', 28, 34).replace(/..(?=.)/g, '$&:'),
    requestedAddress: addressOption(options.get(option.requestedAddress)),
    serverId: addressOption(options.get(option.serverId)),
    clientId: options.get(option.clientId),
  };
}

/** undefined when an option reaches past the end. Of an option that comes twice the first one counts. */
function decodeOptions(bytes: Buffer): ReadonlyMap<number, Buffer> | undefined {
  const found = new Map<number, Buffer>();
  for (let at = 0; at < bytes.length; ) {
    const code = bytes[at] ?? option.end;
    if (code === option.end) return found;
    if (code === option.pad) {
      at += 1;
      continue;
    }
    const length = bytes[at + 1];
    if (length === undefined || at + 2 + length > bytes.length) return undefined;
    if (!found.has(code)) found.set(code, bytes.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  // No end mark: tolerated, as other servers do.
  return found;
}

export function encodeReply(reply: DhcpReply): Buffer {
  const fixed = Buffer.alloc(fixedBytes);
  fixed[0] = bootReply;
  fixed[1] = ethernet;
  fixed[2] = 6;
  fixed.writeUInt32BE(reply.transaction, 4);
  fixed.writeUInt16BE(reply.broadcast ? broadcastFlag : 0, 10);
  fixed.set(octets(reply.clientAddress), 12);
  fixed.set(octets(reply.yourAddress), 16);
  fixed.set(Buffer.from(reply.mac.replaceAll(':', ''), 'hex'), 28);
  fixed.writeUInt32BE(cookie, cookieAt);
  const bytes = Buffer.concat([
    fixed,
    encodeOption(option.type, Buffer.of(types.indexOf(reply.type) + 1)),
    encodeOption(option.serverId, octets(reply.serverId)),
    ...(reply.lease === undefined ? [] : encodeLease(reply.lease)),
    // A server repeats the client's identifier (RFC 6842).
    encodeOption(option.clientId, reply.clientId),
    Buffer.of(option.end),
  ]);
  return Buffer.concat([bytes, Buffer.alloc(Math.max(0, minReplyBytes - bytes.length))]);
}

function encodeLease(lease: DhcpLease): Buffer[] {
  const { leaseSeconds, router, hostname, mtu } = lease;
  return [
    encodeOption(option.leaseSeconds, leaseSeconds === undefined ? undefined : u32(leaseSeconds)),
    encodeOption(option.subnetMask, octets(lease.subnetMask)),
    encodeOption(option.broadcastAddress, octets(lease.broadcastAddress)),
    encodeOption(option.router, router === undefined ? undefined : octets(router)),
    encodeOption(option.nameservers, Buffer.concat(lease.nameservers.slice(0, 8).map(octets))),
    encodeOption(option.hostname, Buffer.from(hostname ?? '').subarray(0, 255)),
    // For clients that do not know the list (RFC 3397), Windows for one.
    encodeOption(option.domain, Buffer.from(lease.searches[0] ?? '').subarray(0, maxOptionBytes)),
    // In one option (RFC 3397).
    encodeOption(option.searches, encodeDomains(lease.searches, maxOptionBytes)),
    encodeOption(option.mtu, mtu === undefined ? undefined : u32(mtu).subarray(2)),
  ];
}

function encodeOption(code: number, value: Uint8Array | undefined): Buffer {
  if (value === undefined || value.length === 0) return Buffer.alloc(0);
  return Buffer.concat([Buffer.of(code, value.length), value]);
}

function addressOption(bytes: Buffer | undefined): string | undefined {
  return bytes?.length === 4 ? dotted(bytes) : undefined;
}

function dotted(bytes: Buffer): string {
  return bytes.join('.');
}

function octets(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
