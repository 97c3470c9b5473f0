import { constants } from 'node:fs';
import { openPath, reopen, reserveSpace } from '#host';
import { copyImage, createEmpty, growRaw, imageHandler, type OpenImage } from '#image';
import { disk } from '#qemu';
import type { DiskSpec, Waiting } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import type { CheckedDisk, DiskHost, DiskSeat } from './disk.ts';
import { diskIo } from './io.ts';
import { type DiskPlan, planDisk } from './plan.ts';
import { createIn, type DirectoryPool, openSource } from './pool.ts';

/** Checks a disk that becomes a file of the VM's own, in its directory or a pool. Throws VmError naming the key that is wrong. */
export async function checkFileDisk(
  spec: DiskSpec,
  pool: DirectoryPool | undefined,
  host: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  const image = await openSource(spec, pool, host, waiting);
  try {
    const plan = planDisk(spec, image);
    return {
      spec,
      image,
      prepare: (seat, site, waiting) => prepare({ spec, pool, image, plan, seat }, site, waiting),
      [Symbol.dispose]: () => image?.[Symbol.dispose](),
    };
  } catch (error) {
    image?.[Symbol.dispose]();
    throw error;
  }
}

interface ToCreate {
  readonly spec: DiskSpec;
  readonly pool: DirectoryPool | undefined;
  readonly image: OpenImage | undefined;
  readonly plan: DiskPlan;
  readonly seat: DiskSeat;
}

/** Creates the disk. The image is only opened for reading. */
async function prepare(wanted: ToCreate, site: Site, waiting: Waiting): Promise<Prepared> {
  const { spec, image, plan, seat } = wanted;
  const { id, device, slot, bootIndex } = seat;
  const path = await openFiles(wanted, site, waiting);
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

/** Creates the disk and opens it for QEMU. Returns its path. */
async function openFiles(
  { spec, pool, image, plan, seat }: ToCreate,
  site: Site,
  waiting: Waiting,
): Promise<string> {
  const { files } = site;
  const { id } = seat;
  if (plan.kind === 'image' && image !== undefined) {
    files.add(`${id}-read`, reopen(image.fd, constants.O_RDONLY));
    return image.path;
  }
  const path = await createIn(pool, spec, site, async (path) => {
    const create = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
    const fd = files.add(id, openPath(path, create, 0o600));
    await fill(fd, { image, plan }, site, waiting);
    if (!spec.sparse) reserveSpace(fd, 0, plan.maxFileBytes);
  });
  if (plan.kind === 'overlay' && image !== undefined) {
    files.add(seat.base, reopen(image.fd, constants.O_RDONLY));
  }
  files.add(`${id}-read`, openPath(path, constants.O_RDONLY | constants.O_NOFOLLOW));
  return path;
}

async function fill(
  fd: number,
  { image, plan: { kind, format, virtualBytes } }: Pick<ToCreate, 'image' | 'plan'>,
  { emit }: Site,
  waiting: Waiting,
): Promise<void> {
  if (image === undefined) {
    createEmpty({ fd, format, virtualBytes });
  } else if (kind === 'overlay') {
    imageHandler.createThinCopy({ fd, base: image, virtualBytes });
  } else {
    emit('Copying the image', { image: image.path });
    await copyImage(image, fd, waiting);
    if (format === 'raw') growRaw(fd, virtualBytes);
  }
}

function serialOf({ serial, primary, name }: DiskSpec): string {
  return serial ?? (primary ? 'primary' : name);
}
