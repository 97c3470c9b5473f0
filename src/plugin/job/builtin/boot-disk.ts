import { type DiskBus, type DiskSpec, primaryDisk, quoted, type VmSpec } from '#spec';
import type { Report } from '../../hcl/problem.ts';
import type { Decoded } from '../../hcl/schema.ts';
import type { builtinFields } from './fields.ts';

type Raw = Pick<Decoded<typeof builtinFields>, 'image_path' | 'drive_interface'>;

/** The disk that `image_path` is: an overlay, since other tasks may use the same image. */
export function readImagePath(
  { image_path: image = '', drive_interface: wanted }: Raw,
  { arch }: Pick<VmSpec, 'arch'>,
  report: Report,
): DiskSpec {
  const usual = arch === 'aarch64' ? 'virtio' : 'ide';
  const bus = wanted === undefined || wanted === 'none' ? usual : busOf(wanted);
  if (bus === undefined) {
    report('drive_interface', `${quoted(wanted ?? '')} is not supported: use ide, scsi or virtio`);
  }
  return {
    ...primaryDisk({ image, thin: true }),
    key: 'image_path',
    bus: bus ?? usual,
    name: bus === 'virtio' ? 'vda' : 'sda',
  };
}

/** The bus that QEMU's `if=` means; undefined where no disk of a VM is on it. */
function busOf(drive: string): DiskBus | undefined {
  return drive === 'ide' || drive === 'scsi' || drive === 'virtio' ? drive : undefined;
}
