import { HostError } from '../error.ts';
import { attempt } from '../native/libc.ts';

// The same on x86-64 and arm64.
const scsiVersion = 0x2282;
const noScsi = new Set(['EINVAL', 'ENOTTY', 'ENXIO', 'EPERM', 'EOPNOTSUPP']);

/** Whether an open block device takes SCSI commands (SG_IO). Throws HostError. */
export function takesScsiCommands(fd: number): boolean {
  const { errno } = attempt('ioctlBytes', fd, scsiVersion, Buffer.alloc(4));
  if (errno === undefined) return true;
  if (noScsi.has(errno)) return false;
  throw new HostError(`asking descriptor ${fd} for SCSI: ${errno}`, { errno });
}
