import { constants } from 'node:fs';
import { openPath, reopen } from '#host';
import { copyImage, growRaw, type ImageRoots, imageHandler, type OpenImage } from '#image';
import { type DiskFormat, disk, type Part } from '#qemu';
import type { DiskSpec, Waiting } from '#spec';
import { VmError, withVmError } from '../error.ts';
import type { Prepared, Site } from './device.ts';

const MiB = 1024 * 1024;

/** A disk that can be created: its image is open and was checked. */
export interface CheckedDisk extends Disposable {
  readonly image: OpenImage;
  readonly plan: DiskPlan;
}

export interface DiskPlan {
  readonly kind: 'overlay' | 'copy';
  readonly format: DiskFormat;
  /** Format of the overlay's base; undefined for a copy. */
  readonly base: DiskFormat | undefined;
  readonly virtualBytes: number;
  /** A copied qcow2 is grown by QEMU itself before the guest runs. */
  readonly growBeforeBoot: boolean;
  /** Maximum length of the disk's file. */
  readonly maxFileBytes: number;
}

type ImageFacts = Pick<OpenImage, 'format' | 'virtualBytes' | 'fileBytes'>;

/** Opens and checks the disk's image. Throws VmError naming the key that is wrong. */
export async function checkDisk(
  spec: DiskSpec,
  allowed: { readonly files: ImageRoots; readonly maxImageBytes: number },
  waiting: Waiting,
): Promise<CheckedDisk> {
  const limit = { maxVirtualBytes: allowed.maxImageBytes };
  const image = await withVmError(
    () => imageHandler.getImageFormat(spec.image, allowed.files, limit, waiting),
    'image',
  );
  try {
    const plan = planDisk(spec, image);
    return { image, plan, [Symbol.dispose]: () => image[Symbol.dispose]() };
  } catch (error) {
    image[Symbol.dispose]();
    throw error;
  }
}

/** Decides how the disk is created. Throws VmError where it would be smaller than its image. */
export function planDisk({ image: name, sizeMiB, thin }: DiskSpec, image: ImageFacts): DiskPlan {
  const virtualBytes = sizeMiB * MiB;
  if (virtualBytes < image.virtualBytes) {
    const needed = Math.ceil(image.virtualBytes / MiB);
    throw new VmError(
      'job',
      `primary_disk_size ${sizeMiB} MiB is smaller than the image ${name}, which has ${needed} MiB`,
    );
  }
  const kind = thin ? 'overlay' : 'copy';
  const format = thin ? 'qcow2' : image.format;
  return {
    kind,
    format,
    base: thin ? image.format : undefined,
    virtualBytes,
    growBeforeBoot: !thin && image.format === 'qcow2' && virtualBytes > image.virtualBytes,
    maxFileBytes: maxFileBytes(kind, format, virtualBytes, image.fileBytes),
  };
}

/**
 * qcow2 keeps its tables in the file: up to 16 bytes for each cluster, which has at least 512. A copy may get a new
 * cluster for each one of the disk while the image's own clusters stay (compressed clusters are never written to).
 */
function maxFileBytes(
  kind: DiskPlan['kind'],
  format: DiskFormat,
  virtualBytes: number,
  imageBytes: number,
): number {
  if (format === 'raw') return virtualBytes;
  const data = virtualBytes + (kind === 'copy' ? imageBytes : 0);
  return data + Math.ceil(data / 16) + 64 * MiB;
}

/** Creates the task's own disk. The image is only opened for reading. */
export async function prepareDisk(
  { image, plan }: CheckedDisk,
  { paths, files, emit }: Site,
  waiting: Waiting,
): Promise<Prepared> {
  const { kind, format, virtualBytes, growBeforeBoot } = plan;
  const create = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
  const fd = files.add('disk', openPath(paths.disk, create, 0o600));
  if (kind === 'overlay') {
    imageHandler.createThinCopy({ fd, base: image, virtualBytes });
    files.add('base', reopen(image.fd, constants.O_RDONLY));
  } else {
    emit('Copying the image', { image: image.path });
    await copyImage(image, fd, waiting);
    if (format === 'raw') growRaw(fd, virtualBytes);
  }
  files.add('disk-read', openPath(paths.disk, constants.O_RDONLY | constants.O_NOFOLLOW));
  return {
    part: diskPart(plan),
    record: {
      kind: 'disk',
      id: 'disk',
      path: paths.disk,
      format,
      image: image.path,
      maxFileBytes: plan.maxFileBytes,
    },
    ...(growBeforeBoot
      ? {
          beforeGuest: async (qmp, booting) => {
            await qmp.execute('block_resize', { 'node-name': 'disk', size: virtualBytes }, booting);
          },
        }
      : {}),
  };
}

/** The disk that the guest boots from. */
export function diskPart({ format, base }: Pick<DiskPlan, 'format' | 'base'>): Part {
  return disk({
    id: 'disk',
    device: 'disk0',
    format,
    ...(base === undefined ? {} : { base: { id: 'base', format: base } }),
    bootIndex: 0,
    serial: 'primary',
  });
}
