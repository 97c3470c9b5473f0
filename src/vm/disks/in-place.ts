import { constants } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { sep } from 'node:path';
import { reopenAside } from '#host';
import { growRaw, type ImageRoots, type OpenImage } from '#image';
import type { DiskSpec } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { describe } from './describe.ts';
import type { DiskSeat } from './disk.ts';
import { lockForVm } from './exclusive.ts';
import { diskIo } from './io.ts';
import { fileBytesOf } from './plan.ts';

/**
 * Whether a disk is its image: where the job wants that, and only in the directories of its own task and allocation. An
 * image of the operator's, or one that was converted, may be that of other VMs as well. Nor is it a raw image whose
 * format the job does not state: its guest may write the header of a larger qcow2 into it, for the next start.
 */
export async function isInPlace(
  { inPlace, source }: DiskSpec,
  { path, format }: OpenImage,
  { task }: ImageRoots,
): Promise<boolean> {
  const isStated = source?.kind === 'image' && source.format !== undefined;
  if (inPlace !== true || !(format === 'qcow2' || isStated)) return false;
  const below = await Promise.all(task.map((directory) => isBelow(directory, path)));
  return below.includes(true);
}

async function isBelow(directory: string, path: string): Promise<boolean> {
  try {
    return path.startsWith(`${await realpath(directory)}${sep}`);
  } catch {
    // A directory that does not exist has no image.
    return false;
  }
}

/** The image, opened for writing. It stays when the VM is removed, for the next start of the same task. */
export async function prepareInPlace(
  spec: DiskSpec,
  { image, seat }: { readonly image: OpenImage; readonly seat: DiskSeat },
  { files }: Site,
): Promise<Prepared> {
  const { format, virtualBytes, fileBytes, path } = image;
  const read = files.add(`${seat.id}-read`, await reopenAside(image.fd, constants.O_RDONLY));
  const fd = files.add(seat.id, await reopenAside(image.fd, constants.O_RDWR));
  await lockForVm(spec, { fd, path });
  if (format === 'raw') await growRaw(fd, virtualBytes);
  const plan = { format, base: undefined, virtualBytes, growBeforeBoot: false };
  return describe({ spec, seat, image: undefined, plan }, path, {
    io: await diskIo(spec, { durable: true, fd: read }),
    maxFileBytes: fileBytesOf('copy', format, virtualBytes, fileBytes),
    locked: true,
  });
}
