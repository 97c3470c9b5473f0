import { encodeDomains } from './domains.ts';

/** DHCPv6 as bytes (RFC 8415, DNS in RFC 3646): messages of clients and replies of a server. */

const queryTypes = {
  1: 'solicit',
  3: 'request',
  4: 'confirm',
  5: 'renew',
  6: 'rebind',
  8: 'release',
  9: 'decline',
  11: 'inform',
} as const;
export type Dhcp6QueryType = (typeof queryTypes)[keyof typeof queryTypes];

/** A message from a client. */
export interface Dhcp6Query {
  readonly type: Dhcp6QueryType;
  /** 24 bits. */
  readonly transaction: number;
  readonly clientId: Buffer | undefined;
  readonly serverId: Buffer | undefined;
  /** Whether the client takes an address without a second exchange. */
  readonly rapidCommit: boolean;
  readonly associations: readonly Dhcp6Association[];
}

/** What a client asks for: an address, a temporary one, or a prefix for a network of its own. */
export interface Dhcp6Association {
  readonly kind: 'address' | 'temporary' | 'prefix';
  /** The client's own number of it. */
  readonly id: number;
  /** The addresses that the client has or wishes. */
  readonly addresses: readonly bigint[];
}

/** What it gets. */
export interface Dhcp6Grant extends Pick<Dhcp6Association, 'kind' | 'id'> {
  /** Those with a lifetime of 0 are not to be used. */
  readonly addresses: readonly { readonly address: bigint; readonly lifetimeSeconds: number }[];
  readonly status: Dhcp6Status | undefined;
}

export const dhcp6Status = { success: 0, noAddress: 2, notOnLink: 4, noPrefix: 6 } as const;
export type Dhcp6Status = (typeof dhcp6Status)[keyof typeof dhcp6Status];

/** A message to a client. Options that are undefined or empty are left out. */
export interface Dhcp6Reply {
  readonly type: 'advertise' | 'reply';
  readonly transaction: number;
  readonly clientId: Buffer | undefined;
  readonly serverId: Buffer;
  readonly rapidCommit: boolean;
  readonly status: Dhcp6Status | undefined;
  readonly grants: readonly Dhcp6Grant[];
  readonly nameservers: readonly bigint[];
  readonly searches: readonly string[];
}

const option = {
  clientId: 1,
  serverId: 2,
  address: 3,
  temporary: 4,
  addressOf: 5,
  preference: 7,
  status: 13,
  rapidCommit: 14,
  nameservers: 23,
  searches: 24,
  prefix: 25,
} as const;
/** By the number of their option, with how many bytes are before the options within it. */
const associations = new Map<number, { kind: Dhcp6Association['kind']; fixedBytes: number }>([
  [option.address, { kind: 'address', fixedBytes: 12 }],
  [option.temporary, { kind: 'temporary', fixedBytes: 4 }],
  [option.prefix, { kind: 'prefix', fixedBytes: 12 }],
]);
const replyTypes = { advertise: 2, reply: 7 } as const;

const headerBytes = 4;
const addressBytes = 16;
/** Of an address within an association, before its own options: the address and two lifetimes. */
const givenBytes = 24;
const maxQueryBytes = 1500;
// RFC 8415, 11.1.
const maxIdBytes = 130;
// More than any client asks for, so that a reply is not much larger than its query.
const maxAssociations = 4;
const maxAddresses = 8;
const maxNameservers = 8;
const maxDomainBytes = 512;
/** No client waits for other servers before it takes this one. */
const preference = 255;

/** undefined for anything that isn't a well-formed message from a client. */
export function decodeQuery6(datagram: Uint8Array): Dhcp6Query | undefined {
  const bytes = Buffer.from(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  if (bytes.length < headerBytes || bytes.length > maxQueryBytes) return undefined;
  const type = queryTypes[bytes.readUInt8(0) as keyof typeof queryTypes];
  const options = decodeOptions(bytes.subarray(headerBytes));
  if (type === undefined || options === undefined) return undefined;
  const first = (code: number): Buffer | undefined =>
    options.find((each) => each.code === code)?.value;
  const [clientId, serverId] = [first(option.clientId), first(option.serverId)];
  if (![clientId, serverId].every(isPossibleId)) return undefined;
  const asked = options.filter(({ code }) => associations.has(code)).map(decodeAssociation);
  if (!asked.every((each) => each !== undefined)) return undefined;
  return {
    type,
    transaction: bytes.readUIntBE(1, 3),
    clientId,
    serverId,
    rapidCommit: first(option.rapidCommit) !== undefined,
    associations: asked.slice(0, maxAssociations),
  };
}

interface Option {
  readonly code: number;
  readonly value: Buffer;
}

/** undefined when one reaches past the end. */
function decodeOptions(bytes: Buffer): readonly Option[] | undefined {
  const found: Option[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (at + 4 > bytes.length) return undefined;
    const end = at + 4 + bytes.readUInt16BE(at + 2);
    if (end > bytes.length) return undefined;
    found.push({ code: bytes.readUInt16BE(at), value: bytes.subarray(at + 4, end) });
    at = end;
  }
  return found;
}

function isPossibleId(id: Buffer | undefined): boolean {
  return id === undefined || (id.length > 2 && id.length <= maxIdBytes);
}

function decodeAssociation({ code, value }: Option): Dhcp6Association | undefined {
  const found = associations.get(code);
  if (found === undefined || value.length < found.fixedBytes) return undefined;
  const options = decodeOptions(value.subarray(found.fixedBytes));
  const given = options?.filter((each) => each.code === option.addressOf) ?? [];
  if (options === undefined || given.some((each) => each.value.length < givenBytes)) {
    return undefined;
  }
  const addresses = given.slice(0, maxAddresses).map((each) => readAddress(each.value));
  return { kind: found.kind, id: value.readUInt32BE(0), addresses };
}

function readAddress(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex', 0, addressBytes)}`);
}

export function encodeReply6(reply: Dhcp6Reply): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(replyTypes[reply.type], 0);
  header.writeUIntBE(reply.transaction, 1, 3);
  const servers = reply.nameservers.slice(0, maxNameservers).map(addressOf);
  return Buffer.concat([
    header,
    encodeOption(option.clientId, reply.clientId),
    encodeOption(option.serverId, reply.serverId),
    encodeOption(option.preference, reply.type === 'advertise' ? Buffer.of(preference) : undefined),
    reply.rapidCommit ? encodeOption(option.rapidCommit, Buffer.alloc(0)) : Buffer.alloc(0),
    encodeStatus(reply.status),
    ...reply.grants.map(encodeGrant),
    ...(servers.length > 0 ? [encodeOption(option.nameservers, Buffer.concat(servers))] : []),
    encodeSearches(reply.searches),
  ]);
}

function encodeGrant({ kind, id, addresses, status }: Dhcp6Grant): Buffer {
  const times = addresses.map(({ lifetimeSeconds }) => lifetimeSeconds).filter((each) => each > 0);
  const lifetime = Math.min(...times, 0xffffffff);
  // When to renew with this server, and with any (RFC 8415, 21.4); 0 leaves it to the client.
  const renewals = times.length === 0 ? [0, 0] : [lifetime * 0.5, lifetime * 0.8].map(Math.floor);
  const fixed = kind === 'temporary' ? [id] : [id, ...renewals];
  const value = Buffer.concat([
    ...fixed.map(u32),
    ...addresses.map(({ address, lifetimeSeconds }) =>
      encodeOption(
        option.addressOf,
        Buffer.concat([addressOf(address), u32(lifetimeSeconds), u32(lifetimeSeconds)]),
      ),
    ),
    encodeStatus(status),
  ]);
  return encodeOption(option[kind], value);
}

function encodeStatus(status: Dhcp6Status | undefined): Buffer {
  if (status === undefined) return Buffer.alloc(0);
  return encodeOption(option.status, Buffer.of(0, status));
}

function encodeSearches(searches: readonly string[]): Buffer {
  const names = encodeDomains(searches, maxDomainBytes);
  return names.length === 0 ? names : encodeOption(option.searches, names);
}

function encodeOption(code: number, value: Buffer | undefined): Buffer {
  if (value === undefined) return Buffer.alloc(0);
  const header = Buffer.alloc(4);
  header.writeUInt16BE(code, 0);
  header.writeUInt16BE(value.length, 2);
  return Buffer.concat([header, value]);
}

function addressOf(address: bigint): Buffer {
  return Buffer.from(address.toString(16).padStart(2 * addressBytes, '0'), 'hex');
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
