import { type DiskSpec, primaryDisk } from '#spec';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';

const MiB = 1024 ** 2;

export const oneDiskFields = {
  image: {
    kind: 'attr',
    type: 'string',
    doc: 'The disk image to boot from: raw or qcow2. An absolute path below image_paths or data_dir; a path relative to the task directory, such as an artifact in `local/`; or `/local/…`, `/alloc/…`, `/secrets/…`, the values of `NOMAD_TASK_DIR` and its like. Required without a `disk` block.',
    example: '"local/debian-12.qcow2"',
  },
  primary_disk_size: {
    kind: 'attr',
    type: 'number',
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    doc: 'Size of the disk in MiB: at least that of the image and `limits.min_disk_mb`, at most `limits.max_disk_mb`. Default: the size of the image.',
    example: '10000',
  },
  use_thin_copy: {
    kind: 'attr',
    type: 'bool',
    doc: 'true: the disk is an overlay that only holds what differs from the image. false, the default: the disk is a private copy of the image. The image is never written to.',
    example: 'true',
  },
} as const satisfies Fields;

type Raw = Decoded<typeof oneDiskFields>;

/** Those keys that a job has. */
export function oneDiskKeys(raw: Raw): readonly string[] {
  const { image, primary_disk_size, use_thin_copy } = raw;
  return Object.entries({ image, primary_disk_size, use_thin_copy })
    .filter(([, value]) => value !== undefined)
    .map(([key]) => key);
}

/** The disk of a job without `disk` blocks. */
export function readOneDisk(raw: Raw, { limits, report }: Job): DiskSpec {
  const { image = '', primary_disk_size: sizeMiB, use_thin_copy: thin = false } = raw;
  if (image === '') report('image', 'image path can not be empty');
  if (sizeMiB === undefined) return primaryDisk({ image, thin });
  if (sizeMiB < limits.minDiskMiB) {
    report(
      'primary_disk_size',
      `not enough disk space assigned to task: ${sizeMiB} MB, at least ${limits.minDiskMiB} are needed`,
    );
  } else if (sizeMiB > limits.maxDiskMiB) {
    report('primary_disk_size', `${sizeMiB} MB are more than the ${limits.maxDiskMiB} allowed`);
  }
  return primaryDisk({ image, sizeBytes: sizeMiB * MiB, thin });
}
