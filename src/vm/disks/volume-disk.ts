import { stat } from 'node:fs/promises';
import { answered } from '#host';
import { type DiskSpec, diskKey, type Waiting } from '#spec';
import { VmError, withVmError } from '../error.ts';
import { checkDeviceDisk } from './device-disk.ts';
import type { CheckedDisk, DiskHost, VolumePlace } from './disk.ts';
import { checkKeptDisk } from './kept-disk.ts';

/** Checks a disk in a Nomad volume: the device that it is, or a file in the directory that it is. */
export async function checkVolumeDisk(
  spec: DiskSpec,
  place: VolumePlace,
  host: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  const stats = await withVmError(
    () => answered(place.hostPath, (path) => stat(path), waiting),
    diskKey(spec, 'volume'),
  );
  if (stats.isBlockDevice()) return checkDeviceDisk(spec, place, host, waiting);
  if (spec.kind === 'lun') {
    const text = 'SCSI commands are passed through to block devices only';
    throw new VmError('job', `${diskKey(spec, 'kind')}: ${text}`);
  }
  if (stats.isDirectory()) return checkKeptDisk(spec, place, host, waiting);
  const text = `${place.hostPath} is neither a directory nor a block device`;
  throw new VmError('job', `${diskKey(spec, 'volume')}: ${text}`);
}
