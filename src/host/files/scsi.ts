import { HostError } from '../error.ts';
import { attemptAside } from '../native/libc.ts';

// The same on x86-64 and arm64.
const scsiVersion = 0x2282;
const noScsi = new Set(['EINVAL', 'ENOTTY', 'ENXIO', 'EPERM', 'EOPNOTSUPP']);

/**
 * Whether an open block device takes SCSI commands (SG_IO). In a thread of the pool: the kernel answers when it has done with the
 * errors of the device's adapter. Throws HostError.
 */
export async function takesScsiCommands(fd: number): Promise<boolean> {
  const { errno } = await attemptAside('ioctlBytes', fd, scsiVersion, Buffer.alloc(4));
  if (errno === undefined) return true;
  if (noScsi.has(errno)) return false;
  throw new HostError(`asking descriptor ${fd} for SCSI: ${errno}`, { errno });
}
