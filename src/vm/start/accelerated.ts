import { findEmulators, probeKvmForVms } from '#qemu';
import type { VmSpec, Waiting } from '#spec';
import { VmError } from '../error.ts';
import type { Accelerated, VmHost } from '../vm-host.ts';

/** The emulator that the VM runs in, and whether KVM works with it. Throws VmError 'emulator'. */
export async function findAccelerated(
  spec: VmSpec,
  { uidRange }: VmHost,
  waiting: Waiting,
): Promise<Accelerated> {
  const { usable, broken } = await findEmulators(waiting);
  const emulator = usable.find((it) => it.arch === spec.arch);
  if (emulator === undefined) {
    const reason = broken.find((it) => it.arch === spec.arch)?.reason;
    const text = reason ?? `there is no qemu-system-${spec.arch} on this host`;
    throw new VmError('emulator', text, { recoverable: true });
  }
  const kvm =
    spec.accelerator === 'tcg'
      ? { usable: false, reason: 'not asked for' }
      : await probeKvmForVms(emulator, uidRange, waiting);
  return { emulator, kvm };
}
