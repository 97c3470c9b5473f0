import type { Waiting } from '#spec';
import { type Attribute, decodeAttributes, encodeAttributes, readText, u64 } from './attributes.ts';
import type { Link } from './link.ts';
import { flag, messageType } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

/** Holds back what leaves by a link: a token bucket (tc-tbf) in place of its queue. */
export interface Shaper {
  readonly bytesPerSecond: number;
  /** What may leave at once after a time of rest. */
  readonly burstBytes: number;
  /** What waits at most; more is dropped. */
  readonly queueBytes: number;
}

const attribute = { kind: 1, options: 2 } as const;
const option = { parameters: 1, rate64: 4, burst: 6 } as const;
const kind = 'tbf';
const headerBytes = 20;
const root = 0xffffffff;
const maxRate32 = 0xffffffff;
// TC_LINKLAYER_ETHERNET: with it the kernel needs no table of times (tbf_change).
const ethernet = 1;

/** Gives a link the shaper, in place of what it has. Its errno is ENOENT where the kernel has none. */
export async function setShaper(
  socket: NetlinkSocket,
  link: Pick<Link, 'index' | 'name'>,
  shaper: Shaper,
  waiting: Waiting,
): Promise<void> {
  const options: readonly Attribute[] = [
    [option.parameters, parameters(shaper)],
    [option.rate64, u64(shaper.bytesPerSecond)],
    [option.burst, shaper.burstBytes],
  ];
  const attributes: readonly Attribute[] = [
    [attribute.kind, kind],
    [attribute.options, options],
  ];
  const body = Buffer.concat([header(link.index), encodeAttributes(attributes)]);
  const request = { what: `limit what leaves by ${link.name}`, type: messageType.newQueue, body };
  await socket.request({ ...request, flags: flag.create | flag.replace }, waiting);
}

/** Indexes of the links that have one. */
export async function listShapers(
  socket: NetlinkSocket,
  waiting: Waiting,
): Promise<ReadonlySet<number>> {
  const request = { what: 'list queues', type: messageType.getQueue, flags: flag.dump };
  const answer = await socket.request({ ...request, body: header(0) }, waiting);
  const shapers = answer.filter(({ type, body }) => {
    if (type !== messageType.newQueue || body.length < headerBytes) return false;
    return readText(decodeAttributes(body.subarray(headerBytes)).get(attribute.kind)) === kind;
  });
  return new Set(shapers.map(({ body }) => body.readInt32LE(4)));
}

/** struct tcmsg (linux/rtnetlink.h): family, pad, ifindex s32, handle u32, parent u32, info u32. */
function header(index: number): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt32LE(index === 0 ? 0 : root, 12);
  return bytes;
}

/**
 * struct tc_tbf_qopt (linux/pkt_sched.h): two struct tc_ratespec of 12 bytes, limit u32, buffer u32, mtu u32. A ratespec
 * has the link layer at byte 1 and the rate at byte 8; the burst comes in an attribute of its own.
 */
function parameters({ bytesPerSecond, queueBytes }: Shaper): Buffer {
  const bytes = Buffer.alloc(36);
  bytes.writeUInt8(ethernet, 1);
  bytes.writeUInt32LE(Math.min(bytesPerSecond, maxRate32), 8);
  bytes.writeUInt32LE(queueBytes, 24);
  return bytes;
}
