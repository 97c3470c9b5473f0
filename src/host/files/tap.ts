import { constants } from 'node:fs';
import { errnoOf, HostError } from '../error.ts';
import { attemptAside, libcError } from '../native/libc.ts';
import { closeAside, openAside, openPath } from './descriptor.ts';

// TUNSETIFF with its flags, and TUNGETIFF, the same on x86-64 and arm64. Both have a struct ifreq: 16 bytes of name, then
// the flags.
const tunSetInterface = 0x400454ca;
const tunGetInterface = 0x800454d2;
const flagTap = 0x0002;
const flagManyQueues = 0x0100;
const flagNoPacketInfo = 0x1000;
const flagVnetHeader = 0x4000;
const maxLinkNameBytes = 15;
const interfaceRequestBytes = 40;

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
    const request = Buffer.alloc(interfaceRequestBytes);
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
