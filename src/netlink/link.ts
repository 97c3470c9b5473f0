import type { Waiting } from '#spec';
import {
  type Attribute,
  decodeAttributes,
  encodeAttributes,
  readMac,
  readText,
  readU32,
} from './attributes.ts';
import { NetlinkError } from './error.ts';
import {
  type BridgeChange,
  type BridgePort,
  decodeInfo,
  encodeBridgeChange,
  encodeBridgePort,
  encodeKind,
  type LinkInfo,
  type LinkKind,
} from './linkinfo.ts';
import { flag, type Message, messageType } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

/** A network interface as the kernel describes it. */
export interface Link extends LinkInfo {
  readonly index: number;
  readonly name: string;
  /** Hardware address, `52:54:00:aa:bb:cc`; '' where there is none. */
  readonly address: string;
  readonly mtu: number;
  readonly up: boolean;
  /** Index of the bridge (or bond, or VRF) it belongs to. */
  readonly master: number | undefined;
  /** Index of the device that it is on, of a macvtap for example. */
  readonly lower?: number;
  /** Free text that `ip link` shows. */
  readonly alias: string;
}

/** What may be changed. `master: 0` takes the link out of its bridge; `netnsPid` and `netnsFd` move it to another namespace. */
export interface LinkChange {
  readonly up?: boolean;
  /** Of a link that is down. */
  readonly name?: string;
  readonly master?: number;
  readonly mtu?: number;
  readonly address?: string;
  readonly alias?: string;
  readonly port?: BridgePort;
  readonly bridge?: BridgeChange;
  readonly netnsPid?: number;
  /** Descriptor of a network namespace, open until the change is made. */
  readonly netnsFd?: number;
}

const attribute = {
  address: 1,
  name: 3,
  mtu: 4,
  lower: 5,
  master: 10,
  info: 18,
  netnsPid: 19,
  alias: 20,
  netnsFd: 28,
  extensions: 29,
} as const;
const headerBytes = 16;
const interfaceUp = 1;
// RTEXT_FILTER_SKIP_STATS (linux/rtnetlink.h): half of a message, and counters of all processors to add up.
const withoutCounters = 8;

export async function listLinks(socket: NetlinkSocket, waiting: Waiting): Promise<readonly Link[]> {
  const request = { what: 'list links', type: messageType.getLink, flags: flag.dump };
  const body = withAttributes({}, [[attribute.extensions, withoutCounters]]);
  const answer = await socket.request({ ...request, body }, waiting);
  return answer.filter(({ type }) => type === messageType.newLink).map(decodeLink);
}

/** undefined when there is no link of that name. */
export async function findLink(
  socket: NetlinkSocket,
  name: string,
  waiting: Waiting,
): Promise<Link | undefined> {
  const body = withAttributes({}, [[attribute.name, name]]);
  try {
    const request = { what: `look up link ${name}`, type: messageType.getLink, flags: 0, body };
    const answer = await socket.request(request, waiting);
    return answer.filter(({ type }) => type === messageType.newLink).map(decodeLink)[0];
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === 'ENODEV') return undefined;
    throw error;
  }
}

/** Makes a link that is down. EEXIST when the name is taken. */
export async function createLink(
  socket: NetlinkSocket,
  link: LinkKind & { readonly name: string; readonly address?: string; readonly mtu?: number },
  waiting: Waiting,
): Promise<void> {
  const body = withAttributes({}, [
    [attribute.name, link.name],
    ...(link.address === undefined ? [] : [hardwareAddress(link.address)]),
    ...(link.mtu === undefined ? [] : [[attribute.mtu, link.mtu] as const]),
    ...encodeKind(link),
  ]);
  const what = `create ${link.kind} ${link.name}`;
  const flags = flag.create | flag.exclusive;
  await socket.request({ what, type: messageType.newLink, flags, body }, waiting);
}

/** Applies all of a change in one message. */
export async function changeLink(
  socket: NetlinkSocket,
  link: Pick<Link, 'index' | 'name'>,
  change: LinkChange,
  waiting: Waiting,
): Promise<void> {
  const attributes: Attribute[] = [];
  if (change.name !== undefined) attributes.push([attribute.name, change.name]);
  if (change.address !== undefined) attributes.push(hardwareAddress(change.address));
  if (change.mtu !== undefined) attributes.push([attribute.mtu, change.mtu]);
  if (change.master !== undefined) attributes.push([attribute.master, change.master]);
  if (change.alias !== undefined) attributes.push([attribute.alias, Buffer.from(change.alias)]);
  if (change.netnsPid !== undefined) attributes.push([attribute.netnsPid, change.netnsPid]);
  if (change.netnsFd !== undefined) attributes.push([attribute.netnsFd, change.netnsFd]);
  if (change.port !== undefined) attributes.push(encodeBridgePort(change.port));
  if (change.bridge !== undefined) attributes.push(encodeBridgeChange(change.bridge));
  const upDown = change.up === undefined ? {} : { flags: change.up ? interfaceUp : 0, mask: 1 };
  const body = withAttributes({ index: link.index, ...upDown }, attributes);
  const what = `change link ${link.name} (${Object.keys(change).join(', ')})`;
  await socket.request({ what, type: messageType.newLink, flags: 0, body }, waiting);
}

/** true: deleted; false: it did not exist any more. */
export async function deleteLink(
  socket: NetlinkSocket,
  link: Pick<Link, 'index' | 'name'>,
  waiting: Waiting,
): Promise<boolean> {
  const body = header({ index: link.index });
  const what = `delete link ${link.name}`;
  try {
    await socket.request({ what, type: messageType.deleteLink, flags: 0, body }, waiting);
    return true;
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === 'ENODEV') return false;
    throw error;
  }
}

function decodeLink(message: Message): Link {
  const { body } = message;
  if (body.length < headerBytes) throw new NetlinkError('a link without its header');
  const attributes = decodeAttributes(body.subarray(headerBytes));
  const master = readU32(attributes.get(attribute.master));
  const lower = readU32(attributes.get(attribute.lower));
  return {
    index: body.readInt32LE(4),
    name: readText(attributes.get(attribute.name)) ?? '',
    ...decodeInfo(attributes.get(attribute.info)),
    address: readMac(attributes.get(attribute.address)),
    mtu: readU32(attributes.get(attribute.mtu)) ?? 0,
    up: (body.readUInt32LE(8) & interfaceUp) !== 0,
    master: master === 0 ? undefined : master,
    ...(lower !== undefined && { lower }),
    alias: readText(attributes.get(attribute.alias)) ?? '',
  };
}

/** struct ifinfomsg (linux/rtnetlink.h): family, pad, type u16, index s32, flags u32, change mask u32. */
function header(fields: { index?: number; flags?: number; mask?: number }): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeInt32LE(fields.index ?? 0, 4);
  bytes.writeUInt32LE(fields.flags ?? 0, 8);
  bytes.writeUInt32LE(fields.mask ?? 0, 12);
  return bytes;
}

function withAttributes(
  fields: Parameters<typeof header>[0],
  attributes: readonly Attribute[],
): Buffer {
  return Buffer.concat([header(fields), encodeAttributes(attributes)]);
}

function hardwareAddress(text: string): Attribute {
  return [attribute.address, Buffer.from(text.replaceAll(':', ''), 'hex')];
}
