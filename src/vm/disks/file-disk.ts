import { constants } from 'node:fs';
import { createFile, openAside, reopenAside } from '#host';
import type { ImageRoots, OpenImage } from '#image';
import type { DiskSpec, Waiting } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { writeContent } from './content.ts';
import { describe } from './describe.ts';
import type { CheckedDisk, DiskHost, DiskSeat } from './disk.ts';
import { isInPlace, prepareInPlace } from './in-place.ts';
import { diskIo } from './io.ts';
import { type DiskPlan, planDisk } from './plan.ts';
import { checkPool, createIn, type DirectoryPool } from './pool.ts';
import { openSource, type Source } from './source.ts';

/** Checks a disk that becomes a file of the VM's own, in its directory or a pool. Throws VmError naming the key that is wrong. */
export async function checkFileDisk(
  spec: DiskSpec,
  pool: DirectoryPool | undefined,
  host: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  if (pool !== undefined) await checkPool(pool, spec, waiting);
  // An overlay takes any base, and what is only read is used as it is.
  const to = spec.chained || spec.readOnly ? undefined : spec.format;
  const source = await openSource(spec, { pool, to, host }, waiting);
  try {
    // The size of what is compressed is known when it was imported.
    if (source === undefined || source.facts !== undefined) planDisk(spec, source?.facts);
    return {
      spec,
      get image() {
        return source?.image;
      },
      prepare: (seat, site, waiting) =>
        prepare({ spec, pool, source, seat, roots: host.files }, site, waiting),
      [Symbol.dispose]: () => source?.[Symbol.dispose](),
    };
  } catch (error) {
    source?.[Symbol.dispose]();
    throw error;
  }
}

interface ToPrepare {
  readonly spec: DiskSpec;
  readonly pool: DirectoryPool | undefined;
  readonly source: Source | undefined;
  readonly seat: DiskSeat;
  readonly roots: ImageRoots;
}

interface ToCreate extends Omit<ToPrepare, 'source' | 'roots'> {
  readonly image: OpenImage | undefined;
  readonly plan: DiskPlan;
}

/** Creates the disk. The image is only opened for reading, unless it is the disk itself. */
async function prepare(wanted: ToPrepare, site: Site, waiting: Waiting): Promise<Prepared> {
  const { spec, seat } = wanted;
  const image = await wanted.source?.ready(site, waiting);
  if (image !== undefined && (await isInPlace(spec, image, wanted.roots))) {
    return prepareInPlace(spec, { image, seat }, site);
  }
  if (image !== undefined && spec.inPlace === true) {
    site.emit(
      'Changes to the disk end with the task: only a qcow2 image in the task directory keeps them',
      {
        image: image.path,
      },
    );
  }
  const plan = planDisk(spec, image);
  const disk = { ...wanted, image, plan };
  const path = await openFiles(disk, site, waiting);
  const io = await diskIo(spec, { durable: false, fd: site.files.get(`${seat.id}-read`) });
  return describe(disk, path, { io, maxFileBytes: plan.maxFileBytes });
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
    files.add(`${id}-read`, await reopenAside(image.fd, constants.O_RDONLY));
    return image.path;
  }
  const path = await createIn(pool, spec, site, async (path) => {
    const fd = files.add(id, await createFile(path));
    await writeContent(fd, { path, spec, image, plan }, site, waiting);
  });
  if (plan.kind === 'overlay' && image !== undefined) {
    files.add(seat.base, await reopenAside(image.fd, constants.O_RDONLY));
  }
  files.add(`${id}-read`, await openAside(path, constants.O_RDONLY | constants.O_NOFOLLOW));
  return path;
}
