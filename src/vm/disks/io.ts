import { constants } from 'node:fs';
import { closeLater, reopenAside } from '#host';
import { cacheModes, type DiskIo, defaultDiskIo } from '#qemu';
import { type DiskCache, type DiskSpec, diskKey } from '#spec';
import { VmError } from '../error.ts';

/**
 * How a disk is read and written, as far as the job leaves it open: a disk that is kept goes past the page cache where
 * the file system can do that, because its content matters more than the speed of a second reading; a disk that ends
 * with its VM uses the page cache. `fd` is any open descriptor of it. Throws VmError for what the file system can't do.
 */
export async function diskIo(
  spec: DiskSpec,
  { durable, fd }: { readonly durable: boolean; readonly fd: number },
): Promise<DiskIo & { readonly cache: DiskCache }> {
  const { cache, aio, discard } = spec;
  const possible = (): Promise<boolean> => canBeDirect(fd);
  const wantsDirect = aio === 'native' || (aio === undefined && durable);
  const mode = cache ?? (wantsDirect && (await possible()) ? 'none' : 'writeback');
  const { direct, noFlush, writeCache } = cacheModes[mode];
  if (direct && cache !== undefined && !(await possible())) {
    const text = `"${cache}" is not possible on the file system of this disk; leave it out`;
    throw new VmError('job', `${diskKey(spec, 'cache')}: ${text}`);
  }
  if (aio === 'native' && !direct) {
    const text = `"native" needs cache "none" or "directsync", and a file system that supports them`;
    throw new VmError('job', `${diskKey(spec, 'aio')}: ${text}`);
  }
  return {
    cache: mode,
    aio: aio ?? (direct ? 'native' : defaultDiskIo.aio),
    direct,
    noFlush,
    writeCache,
    discard,
  };
}

/** The same for a disk that QEMU reaches over a network: the modes are those of its client. */
export function remoteDiskIo({
  cache = 'writeback',
  discard,
}: DiskSpec): DiskIo & { readonly cache: DiskCache } {
  return { ...defaultDiskIo, ...cacheModes[cache], cache, discard };
}

async function canBeDirect(fd: number): Promise<boolean> {
  try {
    closeLater(await reopenAside(fd, constants.O_RDONLY | constants.O_DIRECT));
    return true;
  } catch {
    return false;
  }
}
