import { lockDisk } from '#host';
import { type DiskSpec, diskKey } from '#spec';
import { VmError } from '../error.ts';

/**
 * Locks a disk that is kept before anything is written to it: QEMU, which locks it as well, comes later. QEMU gets this
 * descriptor, so the lock is the VM's from now on. Throws VmError where another VM has it.
 */
export async function lockForVm(
  spec: DiskSpec,
  { fd, path }: { readonly fd: number; readonly path: string },
): Promise<void> {
  if (await lockDisk(fd, path)) return;
  const text = `a disk of the VM is in use by another VM or program: ${path} is locked`;
  const key = spec.place.kind === 'volume' ? 'volume' : 'source.image';
  throw new VmError('host', `${diskKey(spec, key)}: ${text}`, { recoverable: true });
}
