import { type Stats, statSync } from 'node:fs';
import type { Waiting } from '#spec';
import type { Emulator } from '../emulator.ts';
import { type KvmVerdict, probeKvm } from './probe.ts';

const device = '/dev/kvm';
const groupReadWrite = 0o060;
const othersReadWrite = 0o006;

/**
 * The group of a VM's user. QEMU opens /dev/kvm itself, as that user: where the distribution gives access to a group
 * (`kvm`) and not to every user, the VM gets that group; otherwise it gets one that no other process has.
 */
export function vmGid(
  uid: number,
  kvm: Pick<Stats, 'mode' | 'gid'> | undefined = deviceStats(),
): number {
  if (kvm === undefined || kvm.gid === 0) return uid;
  if ((kvm.mode & othersReadWrite) === othersReadWrite) return uid;
  return (kvm.mode & groupReadWrite) === groupReadWrite ? kvm.gid : uid;
}

/** Whether KVM works for the users that VMs run as. */
export async function probeKvmForVms(
  emulator: Emulator,
  { min: uid }: { readonly min: number },
  waiting: Waiting,
): Promise<KvmVerdict> {
  const verdict = await probeKvm(emulator, waiting, { uid, gid: vmGid(uid) });
  const remedy = closedDevice(uid);
  return verdict.usable || remedy === undefined ? verdict : { ...verdict, reason: remedy };
}

/** What opens /dev/kvm to VMs where it is closed to their users; undefined where it is open to them or not there. */
export function closedDevice(
  uid: number,
  kvm: Pick<Stats, 'mode' | 'gid'> | undefined = deviceStats(),
): string | undefined {
  if (kvm === undefined || (kvm.mode & othersReadWrite) === othersReadWrite) return undefined;
  if (vmGid(uid, kvm) !== uid) return undefined;
  // Not every host has the group: it comes with udev's rules.
  const command = `groupadd --force --system kvm && chown root:kvm ${device} && chmod 660 ${device}`;
  return `${device} is open to root only, and VMs run as users of their own: open it to the group kvm with: ${command}`;
}

function deviceStats(): Stats | undefined {
  return statSync(device, { throwIfNoEntry: false });
}
