import { type DiskSpec, primaryDisk } from '#spec';
import type { Decoded, Fields } from '../hcl/schema.ts';
import type { Job } from './job.ts';

export const diskFields = {
  image: {
    kind: 'attr',
    type: 'string',
    doc: 'The disk image to boot from: raw or qcow2. An absolute path below image_paths or data_dir; a path relative to the task directory, such as an artifact in `local/`; or `/local/…`, `/alloc/…`, `/secrets/…`, the values of `NOMAD_TASK_DIR` and its like. Required.',
    example: '"local/debian-12.qcow2"',
  },
  primary_disk_size: {
    kind: 'attr',
    type: 'number',
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    doc: 'Size of the primary disk in MiB: at least that of the image and `limits.min_disk_mb` (2000 unless set), at most `limits.max_disk_mb`. Required.',
    example: '10000',
  },
  use_thin_copy: {
    kind: 'attr',
    type: 'bool',
    default: false,
    doc: 'true: the disk is an overlay that only holds what differs from the image. false: the disk is a private copy of the image. The image is never written to.',
    example: 'true',
  },
} as const satisfies Fields;

export function readDisk(raw: Decoded<typeof diskFields>, { limits, report }: Job): DiskSpec {
  const image = raw.image ?? '';
  if (image === '') report('image', 'image path can not be empty');
  const sizeMiB = raw.primary_disk_size ?? 0;
  if (sizeMiB < limits.minDiskMiB) {
    report(
      'primary_disk_size',
      `not enough disk space assigned to task: ${sizeMiB} MB, at least ${limits.minDiskMiB} are needed`,
    );
  } else if (sizeMiB > limits.maxDiskMiB) {
    report('primary_disk_size', `${sizeMiB} MB are more than the ${limits.maxDiskMiB} allowed`);
  }
  return primaryDisk({ image, sizeBytes: sizeMiB * 1024 ** 2, thin: raw.use_thin_copy });
}
