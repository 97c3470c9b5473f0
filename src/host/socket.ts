import { chmodSync, constants } from 'node:fs';
import { isIPv4 } from 'node:net';
import { errnoOf, HostError } from './error.ts';
import { closeAside, closeFd, openAside, openPath } from './files/descriptor.ts';
import { attemptAside, libcError, must } from './native/libc.ts';
import { socketAddress } from './socket-address.ts';

const familyUnix = 1;
const typeStream = 1;
const typeDatagram = 2;
const typeCloexec = 0o2000000;
const typeNonBlocking = 0o4000;
const solSocket = 1;
const soReuseAddress = 2;
const soBroadcast = 6;
const soReusePort = 15;
const soBindToDevice = 25;
const levelIpv6 = 41;
const ipv6Only = 26;
const maxUnixPathBytes = 107; // sun_path is 108 bytes with its NUL
const backlog = 16;

// TUNSETIFF and its flags, the same on x86-64 and arm64.
const tunSetInterface = 0x400454ca;
const flagTap = 0x0002;
const flagManyQueues = 0x0100;
const flagNoPacketInfo = 0x1000;
const flagVnetHeader = 0x4000;
const maxLinkNameBytes = 15;
// Gives a struct ifreq: 16 bytes of name, then the flags.
const tunGetInterface = 0x800454d2;
const interfaceRequestBytes = 40;

/**
 * A Unix stream socket that listens at `path`, mode 0600: connecting needs write permission on it. The path may have at
 * most 107 bytes; an existing file is EADDRINUSE. Returns the descriptor. Throws HostError.
 */
export function listenUnix(path: string): number {
  const address = unixAddress(path);
  const fd = must('making a unix socket', 'socket', familyUnix, typeStream | typeCloexec, 0);
  try {
    must(`binding a socket to ${path}`, 'bind', fd, address, address.length);
    // No process can connect before listen(), so the umask's mode has no effect. Changing the umask instead would affect
    // files that pool threads are making at the same time.
    chmodSync(path, 0o600);
    must(`listening on ${path}`, 'listen', fd, backlog);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/**
 * A connection to the Unix stream socket that listens at `path`, to pass to a child: Node's own sockets can't be passed.
 * Returns the descriptor, in blocking mode. Throws HostError.
 */
export function connectUnix(path: string): number {
  const address = unixAddress(path);
  const fd = must('making a unix socket', 'socket', familyUnix, typeStream | typeCloexec, 0);
  try {
    must(`connecting to ${path}`, 'connect', fd, address, address.length);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/**
 * The same in a thread of the pool, and without a wait for a server that accepts nothing (EAGAIN), for a path that may be on
 * any file system. The descriptor is for one of Node's sockets. Throws HostError.
 */
export async function connectUnixAside(path: string): Promise<number> {
  const address = unixAddress(path);
  const type = typeStream | typeCloexec | typeNonBlocking;
  const fd = must('making a unix socket', 'socket', familyUnix, type, 0);
  const { errno } = await attemptAside('connect', fd, address, address.length);
  if (errno === undefined) return fd;
  closeFd(fd);
  throw libcError(`connecting to ${path}`, errno);
}

/** Two Unix stream sockets that are connected to each other, in blocking mode. Throws HostError. */
export function socketPair(): readonly [number, number] {
  const ends = Buffer.alloc(8); // int[2]
  must('making a pair of sockets', 'socketpair', familyUnix, typeStream | typeCloexec, 0, ends);
  return [ends.readInt32LE(0), ends.readInt32LE(4)];
}

function unixAddress(path: string): Buffer {
  const name = Buffer.from(path);
  if (name.length === 0 || name.length > maxUnixPathBytes || name.includes(0)) {
    throw new HostError(`a socket path has 1 to ${maxUnixPathBytes} bytes: ${path}`, {
      errno: 'ENAMETOOLONG',
    });
  }
  const address = Buffer.alloc(2 + name.length + 1);
  address.writeUInt16LE(familyUnix, 0);
  name.copy(address, 2);
  return address;
}

export interface BoundSocketOptions {
  /** Restricts the socket to packets of this link. */
  readonly device?: string;
  /** The address to bind to, '0.0.0.0' for any of IPv4, '::' for any of IPv6. */
  readonly address: string;
  readonly port: number;
}

export interface UdpSocketOptions extends BoundSocketOptions {
  /** Whether sending to a broadcast address is allowed. */
  readonly broadcast: boolean;
  /** Each packet goes to one of the sockets that share the port so; otherwise a broadcast to all, others to the last. */
  readonly spread?: boolean;
}

/** A bound datagram socket of the address's family alone, ready for `dgram.Socket.bind({ fd })`, which then owns it. Throws HostError. */
export function udpSocket({ broadcast, spread = false, ...where }: UdpSocketOptions): number {
  const also = [...(broadcast ? [soBroadcast] : []), ...(spread ? [soReusePort] : [])];
  return boundSocket(typeDatagram, where, also);
}

/**
 * A bound stream socket, ready for `net.Server.listen({ fd })`, which then owns it. Each connection goes to one of
 * the sockets that share the port. Throws HostError.
 */
export function tcpSocket(where: BoundSocketOptions): number {
  return boundSocket(typeStream, where, [soReusePort]);
}

function boundSocket(
  type: number,
  { device, address, port }: BoundSocketOptions,
  options: readonly number[],
): number {
  const target = socketAddress(address, port);
  const where = `${address}:${port}${device === undefined ? '' : ` on ${device}`}`;
  const flags = typeCloexec | typeNonBlocking;
  const fd = must('making a socket', 'socket', target.readUInt16LE(0), type | flags, 0);
  try {
    for (const option of [soReuseAddress, ...options]) {
      setOption(fd, { level: solSocket, option }, `sharing ${where}`);
    }
    if (!isIPv4(address)) setOption(fd, { level: levelIpv6, option: ipv6Only }, `binding ${where}`);
    if (device !== undefined) tieToDevice(fd, device);
    must(`binding a socket to ${where}`, 'bind', fd, target, target.length);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** The socket gets packets of this link alone, and sends over it. */
export function tieToDevice(fd: number, device: string): void {
  const name = Buffer.from(`${device}\0`);
  const what = `tying a socket to the link ${device}`;
  must(what, 'setsockopt', fd, solSocket, soBindToDevice, name, name.length);
}

function setOption(
  fd: number,
  { level, option }: { readonly level: number; readonly option: number },
  what: string,
): void {
  const on = Buffer.alloc(4);
  on.writeInt32LE(1);
  must(what, 'setsockopt', fd, level, option, on, on.length);
}

/**
 * Makes a tap, in the network namespace that this is called in. It lives as long as its descriptor (it is not
 * persistent). `name` has at most 15 bytes and may contain %d for a number that the kernel chooses; the resulting name is
 * returned. Needs CAP_NET_ADMIN. The kernel waits for the lock of all links, so it is asked in a thread of the pool. Throws HostError.
 *
 * With `manyQueues` each further call with the name gives the tap another queue.
 *
 * With `offload` frames carry a virtio header, which leaves checksums and segmentation to the receiver. In it the sender
 * also names two bytes of the frame to be filled in with a checksum that it controls, and the kernel fills them in when
 * the frame leaves through the receiver's tap: after all rules have been applied.
 */
export async function openTap(
  name: string,
  { offload = false, manyQueues = false } = {},
): Promise<{ readonly fd: number; readonly name: string }> {
  const bytes = Buffer.from(name);
  if (bytes.length === 0 || bytes.length > maxLinkNameBytes || bytes.includes(0)) {
    throw new HostError(`a link name has 1 to ${maxLinkNameBytes} bytes: ${name}`);
  }
  const fd = openPath('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  try {
    const request = Buffer.alloc(40); // struct ifreq: 16 bytes of name, then the flags
    bytes.copy(request);
    const flags =
      flagTap |
      flagNoPacketInfo |
      (offload ? flagVnetHeader : 0) |
      (manyQueues ? flagManyQueues : 0);
    request.writeUInt16LE(flags, 16);
    await requestAside(`making the tap ${name}`, fd, { code: tunSetInterface, request });
    return { fd, name: request.toString('latin1', 0, request.indexOf(0)) };
  } catch (error) {
    await closeAside(fd);
    throw error;
  }
}

/**
 * Opens one more queue of a macvtap link, in a thread of the pool as well. Undefined when the device file of that index is absent or another link's:
 * links of other network namespaces may have the same index, and the name of the file has nothing else in it.
 */
export async function openMacvtap(link: {
  readonly index: number;
  readonly name: string;
}): Promise<number | undefined> {
  const path = `/dev/tap${link.index}`;
  let fd: number;
  try {
    fd = await openAside(path, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    if (/^(ENOENT|ENODEV|ENXIO)$/.test(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
  try {
    if ((await nameOf(fd, path)) === link.name) return fd;
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
  }
  await closeAside(fd);
  return undefined;
}

async function nameOf(fd: number, path: string): Promise<string> {
  const request = Buffer.alloc(interfaceRequestBytes);
  await requestAside(`asking ${path} for its link`, fd, { code: tunGetInterface, request });
  return request.toString('latin1', 0, maxLinkNameBytes + 1).replace(/\0.*$/s, '');
}

async function requestAside(
  what: string,
  fd: number,
  { code, request }: { readonly code: number; readonly request: Buffer },
): Promise<void> {
  const { errno } = await attemptAside('ioctlBytes', fd, code, request);
  if (errno !== undefined) throw libcError(what, errno);
}
