import { HostError } from '#host';
import { ImageError } from '#image';
import { NetlinkError } from '#netlink';
import { NetError } from '../../src/net/model/error.ts';
import { QmpError } from '../../src/qmp/error.ts';
import { asVmError, VmError } from '../../src/vm/error.ts';

/** What a start on the backend of ordinary processes fails with, by the image that it is asked for. */
export const failures: Readonly<Record<string, () => unknown>> = {
  '/job': () => withCode(new Error('image: there is no file /job'), 'job'),
  '/job-then-cleanup': () =>
    new SuppressedError(new Error('unmount'), withCode(new Error('image: a pipe'), 'job')),
  '/vm': () => new VmError('host', 'there is no qemu-system-x86_64 on this host'),
  '/host': () => new HostError('mount tmpfs on /run/x: EPERM'),
  '/image': () => new ImageError('io', 'read /image: EIO'),
  '/net': () => new NetError('job', 'bridge: no bridge br9'),
  '/netlink': () => new NetlinkError('RTM_NEWLINK virbr0: EPERM'),
  '/qmp': () => new QmpError('connect', 'there is no monitor at /run/x/qmp.sock'),
  '/errno': () => withCode(new Error('ENOSPC: no space left on device, write'), 'ENOSPC'),
  '/timeout': () => new DOMException('the operation took too long', 'TimeoutError'),
  '/abort': () => new DOMException('the operation was aborted', 'AbortError'),
  '/bug': () => new TypeError('x is not a function'),
  '/bug-in-vm': () => asVmError(new TypeError('x is not a function'), 'image'),
  '/bug-of-node': () => withCode(new TypeError('must be a string'), 'ERR_INVALID_ARG_TYPE'),
};

function withCode(error: Error, code: string): Error {
  return Object.assign(error, { code });
}
