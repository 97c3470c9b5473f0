import type { Waiting } from '#spec';
import { type Attribute, decodeAttributes, encodeAttributes } from './attributes.ts';
import { NetlinkError } from './error.ts';
import { addressBytes, addressText, family, familyOf } from './ip-bytes.ts';
import { flag, type Message } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

/** One direction of a connection, with the addresses its packets have on the wire. Ports are undefined for protocols without. */
export interface FlowSide {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number | undefined;
  readonly destinationPort: number | undefined;
}

/** An IPv4 or IPv6 connection that the kernel tracks. */
export interface Flow {
  /** An IP protocol number: 6 is TCP, 17 UDP. */
  readonly protocol: number;
  readonly original: FlowSide;
  /** Mirrors the other side, unless addresses are translated. */
  readonly reply: FlowSide;
  /** The attributes by which the kernel identifies it. */
  readonly key: readonly Attribute[];
}

/** Matches connections whose packets in that direction have all the given properties. */
export interface FlowFilter {
  readonly side: 'original' | 'reply';
  readonly source?: string;
  /** Without a source: whether connections over IPv6 are meant, instead of those over IPv4. */
  readonly isIpv6?: boolean;
  /** A port alone has no meaning. */
  readonly target?: { readonly protocol: number; readonly port: number };
}

// linux/netfilter/nfnetlink.h: the type of a message is its subsystem, CTNETLINK, and IPCTNL_MSG_CT_*.
const subsystem = 1 << 8;
const messageType = { new: subsystem, get: subsystem | 1, delete: subsystem | 2 } as const;
// linux/netfilter/nfnetlink_conntrack.h
const attribute = { original: 1, reply: 2, id: 12, zone: 18, filter: 25 } as const;
const tuple = { ip: 1, protocol: 2 } as const;
const ip = { source: 1, destination: 2 } as const;
const ip6 = { source: 3, destination: 4 } as const;
const protocol = { number: 1, sourcePort: 2, destinationPort: 3 } as const;
const filterFlags = { original: 1, reply: 2 } as const;
const wanted = { source: 1 << 0, protocol: 1 << 3, destinationPort: 1 << 5 } as const;
// The kernel requires this flag for CTA_FILTER (nla_parse_nested).
const nested = 0x8000;
const headerBytes = 4;
// About 20 KiB: a datagram has to fit into the socket's send buffer (net.core.wmem_default, 208 KiB).
const perDatagram = 200;

/**
 * At most `maxFlows` of them: the table may have hundreds of thousands. Kernels before 5.8 filter only after that. All
 * kernels until 6.18 at least find those that have another IPv6 address than the given one
 * (ctnetlink_filter_match_tuple), so that messages are kept by it here.
 */
export async function listFlows(
  socket: NetlinkSocket,
  { filter, maxFlows }: { readonly filter?: FlowFilter; readonly maxFlows: number },
  waiting: Waiting,
): Promise<readonly Flow[]> {
  const source6 = filter?.source?.includes(':') ? addressBytes(filter.source) : undefined;
  const attributes = filter === undefined || source6 !== undefined ? [] : encodeFilter(filter);
  const body = Buffer.concat([header(familyOfFilter(filter)), encodeAttributes(attributes)]);
  const request = {
    what: 'list connections',
    type: messageType.get,
    flags: flag.dump,
    body,
    maxMessages: maxFlows,
    ...(source6 && { keeps: (message: Message) => message.body.includes(source6) }),
  };
  const answer = await socket.request(request, waiting);
  const flows = answer.flatMap(({ type, body: bytes }) =>
    type === messageType.new ? decodeFlow(bytes) : [],
  );
  // Kernels before 5.8 don't know the filter and list everything.
  return filter === undefined ? flows : flows.filter((flow) => matches(flow, filter));
}

/** Deletes connections from the kernel's table, where they still exist. */
export async function deleteFlows(
  socket: NetlinkSocket,
  flows: readonly Pick<Flow, 'original' | 'key'>[],
  waiting: Waiting,
): Promise<void> {
  const bodies = flows.map((flow) =>
    Buffer.concat([header(familyOf(flow.original.source)), encodeAttributes(flow.key)]),
  );
  for (let at = 0; at < bodies.length; at += perDatagram) {
    const ahead = bodies.slice(at, at + perDatagram);
    const body = ahead.pop() ?? Buffer.alloc(0);
    const request = { what: 'delete connections', type: messageType.delete, flags: 0, body, ahead };
    await socket.request(request, waiting).catch(unlessGone);
  }
}

function unlessGone(error: unknown): void {
  if (!(error instanceof NetlinkError && error.errno === 'ENOENT')) throw error;
}

/** struct nfgenmsg: family, version 0, resource id 0. */
function header(which: number): Buffer {
  return Buffer.of(which, 0, 0, 0);
}

/** Without an address in the filter, and so without a filter, connections of both families are meant. */
function familyOfFilter(filter: FlowFilter | undefined): number {
  if (filter === undefined) return family.unspecified;
  if (filter.source !== undefined) return familyOf(filter.source);
  return filter.isIpv6 ? family.inet6 : family.inet;
}

function encodeFilter({ side, source, target }: FlowFilter): readonly Attribute[] {
  const addresses: Attribute[] = source === undefined ? [] : [[ip.source, addressBytes(source)]];
  const ports: Attribute[] =
    target === undefined
      ? []
      : [
          [protocol.number, Buffer.of(target.protocol)],
          [protocol.destinationPort, Buffer.of(target.port >> 8, target.port & 0xff)],
        ];
  const flags =
    (source === undefined ? 0 : wanted.source) |
    (target === undefined ? 0 : wanted.protocol | wanted.destinationPort);
  return [
    [
      attribute[side],
      [
        [tuple.ip, addresses],
        [tuple.protocol, ports],
      ],
    ],
    [attribute.filter | nested, [[filterFlags[side], flags]]],
  ];
}

/** Whether a filter finds that connection. */
export function matches(flow: Flow, filter: FlowFilter): boolean {
  const { side, source, target } = filter;
  const seen = flow[side];
  if (familyOf(seen.source) !== familyOfFilter(filter)) return false;
  if (source !== undefined && seen.source !== source) return false;
  if (target === undefined) return true;
  return flow.protocol === target.protocol && seen.destinationPort === target.port;
}

/** [] for anything but a complete connection. */
export function decodeFlow(body: Buffer): readonly Flow[] {
  const attributes = decodeAttributes(body.subarray(headerBytes));
  const original = attributes.get(attribute.original);
  const reply = attributes.get(attribute.reply);
  const there = original && decodeSide(original);
  const back = reply && decodeSide(reply);
  if (original === undefined || there === undefined || back === undefined) return [];
  if (body[0] !== familyOf(there.side.source)) return [];
  const names = [attribute.zone, attribute.id].flatMap((type) => {
    const bytes = attributes.get(type);
    return bytes === undefined ? [] : [[type, bytes] as const];
  });
  return [
    {
      protocol: there.protocol,
      original: there.side,
      reply: back.side,
      key: [[attribute.original, original], ...names],
    },
  ];
}

function decodeSide(bytes: Buffer): { side: FlowSide; protocol: number } | undefined {
  const parts = decodeAttributes(bytes);
  const addresses = decodeAttributes(parts.get(tuple.ip) ?? Buffer.alloc(0));
  const ports = decodeAttributes(parts.get(tuple.protocol) ?? Buffer.alloc(0));
  const source = addressText(addresses.get(ip.source) ?? addresses.get(ip6.source));
  const destination = addressText(addresses.get(ip.destination) ?? addresses.get(ip6.destination));
  const number = ports.get(protocol.number)?.[0];
  if (source === undefined || destination === undefined || number === undefined) return undefined;
  const sourcePort = portIn(ports.get(protocol.sourcePort));
  const destinationPort = portIn(ports.get(protocol.destinationPort));
  return { side: { source, destination, sourcePort, destinationPort }, protocol: number };
}

function portIn(bytes: Buffer | undefined): number | undefined {
  return bytes?.length === 2 ? bytes.readUInt16BE() : undefined;
}
