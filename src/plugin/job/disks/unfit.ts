import type { DiskPlace } from '#spec';
import type { Job } from '../job.ts';
import type { DiskBlock } from './fields.ts';
import { isWritten, poolKind } from './place.ts';

/** What QEMU does to requests that it makes itself; those of a lun go from the guest to the device as they are. */
const notForLuns = ['serial', 'cache', 'aio', 'discard', 'throttle'];

/** Reports the keys that would have no effect on a disk of this kind at this place. */
export function reportUnfit({ raw, report }: DiskBlock, place: DiskPlace, { pools }: Job): void {
  const unfit = raw.kind === 'lun' ? notForLuns.filter((key) => isWritten(raw, key)) : [];
  for (const key of unfit) {
    report(key, 'cannot be set for a lun: the guest sends its SCSI commands to the device itself');
  }
  const isRemote = place.kind === 'nbd' || poolKind(place, pools) === 'ceph';
  if (isRemote && raw.aio) {
    report('aio', 'can only be set for a file or a device of the host, not for a disk elsewhere');
  }
}
