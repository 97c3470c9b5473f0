import { type DiskPlace, quoted } from '#spec';
import { parseSize, sizeForm } from '../../hcl/size.ts';
import type { Job } from '../job.ts';
import type { DiskBlock } from './fields.ts';

const MiB = 1024 ** 2;
/** QEMU refuses to write to a raw disk of another size past the page cache. */
const blockBytes = 4096;

/** The size that the job wants, in whole blocks; undefined when it leaves that to the source. */
export function readSize(
  { raw, report }: DiskBlock,
  { primary, place }: { readonly primary: boolean; readonly place: DiskPlace },
  { limits }: Job,
): number | undefined {
  const isEmpty = place.kind === 'pool' && raw.source === undefined;
  if (isEmpty && raw.kind === 'cdrom') report('source', 'a cdrom needs a source');
  if (!raw.size) {
    if (isEmpty && raw.kind !== 'cdrom') {
      report('size', 'missing required attribute: a disk without a source needs it');
    }
    return undefined;
  }
  const bytes = parseSize(raw.size);
  const text = quoted(raw.size);
  if (bytes === undefined) report('size', `size value is not valid - ${text}: ${sizeForm}`);
  else if (primary && raw.kind !== 'cdrom' && bytes < limits.minDiskMiB * MiB) {
    report(
      'size',
      `not enough disk space assigned to task: ${text}, at least ${limits.minDiskMiB} MiB are needed`,
    );
  } else if (bytes > limits.maxDiskMiB * MiB) {
    report('size', `${text} is more than the ${limits.maxDiskMiB} MiB allowed`);
  } else if (bytes === 0) report('size', 'must be more than 0');
  return Math.ceil((bytes ?? 0) / blockBytes) * blockBytes;
}
