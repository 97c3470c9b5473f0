import type { Waiting } from '#spec';
import {
  type Attribute,
  decodeAttributes,
  encodeAttributes,
  readMac,
  readU32,
} from './attributes.ts';
import { addressBytes, addressText, family, familyOf } from './ip-bytes.ts';
import { flag, messageType } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

/** An IPv4 or IPv6 address of a link, with its subnet. */
export interface LinkAddress {
  readonly linkIndex: number;
  readonly address: string;
  readonly prefix: number;
}

/** An IPv4 or IPv6 route of the main table to where packets are sent on. A default route has prefix 0. */
export interface Route {
  readonly destination: string;
  readonly prefix: number;
  readonly linkIndex: number | undefined;
  /** The lowest one is used. */
  readonly metric: number;
}

/** The hardware address behind an IPv4 or IPv6 address on a link, where the kernel has learnt it. */
export interface Neighbour {
  readonly linkIndex: number;
  readonly address: string;
  /** Hardware address, `52:54:00:aa:bb:cc`. */
  readonly mac: string;
}

// IFA_F_NODAD: nothing else in the network may have the address, and it can be used at once.
const withoutDetection = 2;
const addressHeaderBytes = 8;
const routeHeaderBytes = 12;
const neighbourHeaderBytes = 12;
const mainTable = 254;
const localTable = 255;
const addressAttribute = { address: 1, local: 2, broadcast: 4 } as const;
const unicastRoute = 1;
const localRoute = 2;
const staticProtocol = 4;
// After the kernel's own routes to the host's addresses, which have 0.
const localMetric = 2048;
const routeAttribute = { destination: 1, output: 4, priority: 6 } as const;
const neighbourAttribute = { address: 1, mac: 2 } as const;
// NUD_INCOMPLETE, NUD_FAILED and NUD_NOARP: no answer came, or no request was sent.
const unanswered = 0x01 | 0x20 | 0x40;

export async function listAddresses(
  socket: NetlinkSocket,
  waiting: Waiting,
): Promise<readonly LinkAddress[]> {
  const body = familyHeader(addressHeaderBytes);
  const request = { what: 'list addresses', type: messageType.getAddress, flags: flag.dump, body };
  const answer = await socket.request(request, waiting);
  return answer.flatMap(({ type, body: bytes }) => {
    if (type !== messageType.newAddress) return [];
    const attributes = decodeAttributes(bytes.subarray(addressHeaderBytes));
    // On a point-to-point link IFA_ADDRESS is the peer; IFA_LOCAL is always the link's own.
    const address =
      attributes.get(addressAttribute.local) ?? attributes.get(addressAttribute.address);
    const text = addressText(address);
    if (text === undefined) return [];
    return [{ linkIndex: bytes.readUInt32LE(4), address: text, prefix: bytes[1] ?? 0 }];
  });
}

/** Adds an address to a link; one of IPv4 with its subnet's broadcast address. EEXIST when it has that address. */
export async function addAddress(
  socket: NetlinkSocket,
  { linkIndex, address, prefix }: LinkAddress,
  waiting: Waiting,
): Promise<void> {
  const header = familyHeader(addressHeaderBytes, familyOf(address));
  header.writeUInt8(prefix, 1);
  header.writeUInt8(familyOf(address) === family.inet6 ? withoutDetection : 0, 2);
  header.writeUInt32LE(linkIndex, 4);
  const bytes = addressBytes(address);
  const attributes = encodeAttributes([
    [addressAttribute.local, bytes],
    [addressAttribute.address, bytes],
    ...broadcast(bytes, prefix),
  ]);
  const what = `add address ${address}/${prefix} to link ${linkIndex}`;
  const flags = flag.create | flag.exclusive;
  const body = Buffer.concat([header, attributes]);
  await socket.request({ what, type: messageType.newAddress, flags, body }, waiting);
}

function broadcast(address: Buffer, prefix: number): readonly Attribute[] {
  if (address.length !== 4) return [];
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE((address.readUInt32BE() | (2 ** (32 - prefix) - 1)) >>> 0);
  return [[addressAttribute.broadcast, bytes]];
}

/** Those of both families. */
export async function listRoutes(
  socket: NetlinkSocket,
  waiting: Waiting,
): Promise<readonly Route[]> {
  const body = familyHeader(routeHeaderBytes);
  const request = { what: 'list routes', type: messageType.getRoute, flags: flag.dump, body };
  const answer = await socket.request(request, waiting);
  return answer.flatMap(({ type, body: bytes }) => {
    if (type !== messageType.newRoute || bytes[4] !== mainTable) return [];
    if (bytes[7] !== unicastRoute) return [];
    const size = bytes[0] === family.inet6 ? 16 : 4;
    const attributes = decodeAttributes(bytes.subarray(routeHeaderBytes));
    return [
      {
        destination:
          addressText(attributes.get(routeAttribute.destination) ?? Buffer.alloc(size)) ?? '',
        prefix: bytes[1] ?? 0,
        linkIndex: readU32(attributes.get(routeAttribute.output)),
        metric: readU32(attributes.get(routeAttribute.priority)) ?? 0,
      },
    ];
  });
}

/** Makes an address of this host one of that link as well, for packets that arrive there. EEXIST when it is. */
export async function addLocalRoute(
  socket: NetlinkSocket,
  { linkIndex, address }: Pick<LinkAddress, 'linkIndex' | 'address'>,
  waiting: Waiting,
): Promise<void> {
  const bytes = addressBytes(address);
  const header = familyHeader(routeHeaderBytes, familyOf(address));
  header.writeUInt8(bytes.length * 8, 1);
  header.writeUInt8(localTable, 4);
  header.writeUInt8(staticProtocol, 5);
  header.writeUInt8(localRoute, 7);
  const attributes = encodeAttributes([
    [routeAttribute.destination, bytes],
    [routeAttribute.output, linkIndex],
    [routeAttribute.priority, localMetric],
  ]);
  const what = `add route local ${address} to link ${linkIndex}`;
  const body = Buffer.concat([header, attributes]);
  // Not exclusive: another link may have such a route.
  await socket.request({ what, type: messageType.newRoute, flags: flag.create, body }, waiting);
}

/** The IPv4 default route with the lowest metric, if there is one. */
export async function defaultRoute(
  socket: NetlinkSocket,
  waiting: Waiting,
): Promise<Route | undefined> {
  const routes = await listRoutes(socket, waiting);
  return routes
    .filter(({ destination, prefix }) => prefix === 0 && !destination.includes(':'))
    .toSorted((one, other) => one.metric - other.metric)[0];
}

/** Neighbours that have answered. */
export async function listNeighbours(
  socket: NetlinkSocket,
  waiting: Waiting,
): Promise<readonly Neighbour[]> {
  const body = familyHeader(neighbourHeaderBytes);
  const request = { what: 'list neighbours', type: messageType.getNeighbour, flags: flag.dump };
  const answer = await socket.request({ ...request, body }, waiting);
  return answer.flatMap(({ type, body: bytes }) => {
    if (type !== messageType.newNeighbour) return [];
    if ((bytes.readUInt16LE(8) & unanswered) !== 0) return [];
    const attributes = decodeAttributes(bytes.subarray(neighbourHeaderBytes));
    const address = addressText(attributes.get(neighbourAttribute.address));
    if (address === undefined) return [];
    const mac = readMac(attributes.get(neighbourAttribute.mac));
    return [{ linkIndex: bytes.readInt32LE(4), address, mac }];
  });
}

/** Removes an entry from the kernel's neighbour table. ENOENT when there is none. */
export async function deleteNeighbour(
  socket: NetlinkSocket,
  { linkIndex, address }: Pick<Neighbour, 'linkIndex' | 'address'>,
  waiting: Waiting,
): Promise<void> {
  const header = familyHeader(neighbourHeaderBytes, familyOf(address));
  header.writeInt32LE(linkIndex, 4);
  const target = encodeAttributes([[neighbourAttribute.address, addressBytes(address)]]);
  const what = `delete neighbour ${address} of link ${linkIndex}`;
  const body = Buffer.concat([header, target]);
  await socket.request({ what, type: messageType.deleteNeighbour, flags: 0, body }, waiting);
}

/** struct ifaddrmsg, rtmsg and ndmsg all begin with the family. */
function familyHeader(bytes: number, which: number = family.unspecified): Buffer {
  const header = Buffer.alloc(bytes);
  header.writeUInt8(which, 0);
  return header;
}
