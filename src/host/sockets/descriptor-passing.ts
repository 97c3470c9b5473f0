import { HostError } from '../error.ts';
import { attempt, libcError } from '../native/libc.ts';

const solSocket = 1;
const scmRights = 1;
const doNotWait = 0x40;
const noSignal = 0x4000;

/**
 * Sends bytes and with them an open file, which the receiver gets as a descriptor of its own. False where the socket takes
 * nothing at the moment. Throws HostError, also where it took only part of them: the connection is of no use then.
 */
export function sendWithDescriptor(fd: number, socketFd: number, bytes: Uint8Array): boolean {
  const what = 'passing a file over a socket';
  const control = rightsOf(fd);
  const message = {
    vectors: [{ base: bytes, length: bytes.length }],
    vectorCount: 1,
    control,
    controlLength: control.length,
    flags: 0,
  };
  const { value, errno } = attempt('sendmsg', socketFd, message, doNotWait | noSignal);
  if (errno === 'EAGAIN' || errno === 'EWOULDBLOCK') return false;
  if (errno !== undefined) throw libcError(what, errno);
  if (value !== bytes.length) throw new HostError(`${what}: ${value} of ${bytes.length} bytes`);
  return true;
}

/** A `struct cmsghdr` with one descriptor, padded to 8 bytes (CMSG_SPACE). */
function rightsOf(fd: number): Buffer {
  const control = Buffer.alloc(24);
  control.writeBigUInt64LE(20n, 0); // CMSG_LEN: 16 bytes of header and the number
  control.writeInt32LE(solSocket, 8);
  control.writeInt32LE(scmRights, 12);
  control.writeInt32LE(fd, 16);
  return control;
}
