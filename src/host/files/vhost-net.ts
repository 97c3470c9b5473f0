import { constants } from 'node:fs';
import { errnoOf } from '../error.ts';
import { attempt } from '../native/libc.ts';
import { closeAside, closeFd, openPath } from './descriptor.ts';

const device = '/dev/vhost-net';

// linux/vhost.h, the same on x86-64 and arm64.
const getFeatures = 0x8008af00;
const setOwner = 0xaf01;
/** VHOST_NET_F_VIRTIO_NET_HDR: vhost takes virtio's header off itself, for taps that have none. */
const takesHeader = 1n << 27n;

export type VhostVerdict =
  | { readonly usable: true }
  | { readonly usable: false; readonly reason: string };

let known: VhostVerdict | undefined;

/** Whether the kernel's vhost-net works here. What does not work is tried again: a module may be loaded later. */
export async function vhostNet(): Promise<VhostVerdict> {
  if (known?.usable !== true) known = await probeVhostNet();
  return known;
}

/**
 * Does what QEMU does first with a descriptor. Where the kernel refuses that, QEMU 7.2 warns as if it went on without
 * and then ends at an assertion (net_client_init1), so it is found out here.
 */
export async function probeVhostNet(path = device): Promise<VhostVerdict> {
  let fd: number;
  try {
    fd = openPath(path, constants.O_RDWR);
  } catch (error) {
    const reason = `${path} cannot be opened (${errnoOf(error)}): load the kernel module vhost_net`;
    return { usable: false, reason };
  }
  try {
    return tried(fd, path);
  } finally {
    // The kernel waits for others here (synchronize_rcu).
    await closeAside(fd);
  }
}

function tried(fd: number, path: string): VhostVerdict {
  const owned = attempt('ioctlNumber', fd, setOwner, 0);
  if (owned.errno !== undefined) {
    return { usable: false, reason: `${path} takes no owner: ${owned.errno}` };
  }
  const features = Buffer.alloc(8);
  const asked = attempt('ioctlBytes', fd, getFeatures, features);
  if (asked.errno !== undefined) {
    return { usable: false, reason: `${path} does not give its features: ${asked.errno}` };
  }
  if ((features.readBigUInt64LE() & takesHeader) !== 0n) return { usable: true };
  return { usable: false, reason: `${path} needs taps with a header, which VMs' taps do not have` };
}

/** Opens it as many times, once for each queue of a tap. Throws HostError. */
export function openVhostNet(queues: number, path = device): readonly number[] {
  const fds: number[] = [];
  try {
    while (fds.length < queues) fds.push(openPath(path, constants.O_RDWR));
    return fds;
  } catch (error) {
    for (const fd of fds) closeFd(fd);
    throw error;
  }
}
