import { constants } from 'node:fs';
import { openPath, reopen, reserveSpace } from '#host';
import { copyImage, createEmpty, growRaw, imageHandler, type OpenImage } from '#image';
import { disk } from '#qemu';
import { type DiskSpec, diskKey, type Waiting } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { withVmError } from '../error.ts';
import type { CheckedDisk, DiskHost, DiskSeat } from './disk.ts';
import { diskIo } from './io.ts';
import { type DiskPlan, planDisk } from './plan.ts';

/** Checks a disk that becomes a file of the VM's own. Throws VmError naming the key that is wrong. */
export async function checkFileDisk(
  spec: DiskSpec,
  { files, maxImageBytes }: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  const { source } = spec;
  const limit = { maxVirtualBytes: maxImageBytes };
  const image =
    source?.kind === 'image'
      ? await withVmError(
          () => imageHandler.getImageFormat(source.image, files, limit, waiting),
          diskKey(spec, 'source.image'),
        )
      : undefined;
  try {
    const plan = planDisk(spec, image);
    return {
      spec,
      image,
      prepare: (seat, site, waiting) => prepare({ spec, image, plan, seat }, site, waiting),
      [Symbol.dispose]: () => image?.[Symbol.dispose](),
    };
  } catch (error) {
    image?.[Symbol.dispose]();
    throw error;
  }
}

interface ToCreate {
  readonly spec: DiskSpec;
  readonly image: OpenImage | undefined;
  readonly plan: DiskPlan;
  readonly seat: DiskSeat;
}

/** Creates the disk. The image is only opened for reading. */
async function prepare(wanted: ToCreate, site: Site, waiting: Waiting): Promise<Prepared> {
  const { spec, image, plan, seat } = wanted;
  const { id, device, slot, bootIndex } = seat;
  const path = plan.kind === 'image' ? (image?.path ?? '') : pathOf(spec, site);
  await openFiles(wanted, path, site, waiting);
  const io = diskIo(spec, { durable: false, fd: site.files.get(`${id}-read`) });
  return {
    part: disk({
      id,
      device,
      slot,
      format: plan.format,
      ...(plan.base === undefined ? {} : { base: { id: seat.base, format: plan.base } }),
      ...(spec.readOnly ? { readOnly: true } : {}),
      io,
      ...(spec.throttle === undefined ? {} : { throttle: spec.throttle }),
      ...(bootIndex === undefined ? {} : { bootIndex }),
      serial: serialOf(spec),
    }),
    record: {
      kind: 'disk',
      id,
      name: spec.name,
      path,
      format: plan.format,
      image: image?.path ?? '',
      maxFileBytes: plan.maxFileBytes,
      cache: io.cache,
      aio: io.aio,
    },
    ...(plan.growBeforeBoot
      ? {
          beforeGuest: async (qmp, booting) => {
            const size = plan.virtualBytes;
            await qmp.execute('block_resize', { 'node-name': id, size }, booting);
          },
        }
      : {}),
  };
}

async function openFiles(
  { spec, image, plan, seat: { id, base } }: ToCreate,
  path: string,
  { files, emit }: Site,
  waiting: Waiting,
): Promise<void> {
  const { kind, format, virtualBytes } = plan;
  if (kind === 'image' && image !== undefined) {
    files.add(`${id}-read`, reopen(image.fd, constants.O_RDONLY));
    return;
  }
  const create = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
  const fd = files.add(id, openPath(path, create, 0o600));
  if (image === undefined) {
    createEmpty({ fd, format, virtualBytes });
  } else if (kind === 'overlay') {
    imageHandler.createThinCopy({ fd, base: image, virtualBytes });
    files.add(base, reopen(image.fd, constants.O_RDONLY));
  } else {
    emit('Copying the image', { image: image.path });
    await copyImage(image, fd, waiting);
    if (format === 'raw') growRaw(fd, virtualBytes);
  }
  if (!spec.sparse) reserveSpace(fd, 0, plan.maxFileBytes);
  files.add(`${id}-read`, openPath(path, constants.O_RDONLY | constants.O_NOFOLLOW));
}

/** The first disk's file has the name that it had when there was only one. */
function pathOf({ name, primary }: DiskSpec, { vm, paths }: Site): string {
  return primary ? paths.disk : `${paths.dir}/${vm}_${name}.img`;
}

function serialOf({ serial, primary, name }: DiskSpec): string {
  return serial ?? (primary ? 'primary' : name);
}
