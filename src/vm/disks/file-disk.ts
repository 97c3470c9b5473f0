import { constants } from 'node:fs';
import { openPath, reopen } from '#host';
import type { OpenImage } from '#image';

import type { DiskSpec, Waiting } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { writeContent } from './content.ts';
import { describe } from './describe.ts';
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
  const { spec, plan, seat } = wanted;
  const path = await openFiles(wanted, site, waiting);
  const io = diskIo(spec, { durable: false, fd: site.files.get(`${seat.id}-read`) });
  return describe(wanted, path, { io, maxFileBytes: plan.maxFileBytes });
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
    await writeContent(fd, { spec, image, plan }, site, waiting);
  });
  if (plan.kind === 'overlay' && image !== undefined) {
    files.add(seat.base, reopen(image.fd, constants.O_RDONLY));
  }
  files.add(`${id}-read`, openPath(path, constants.O_RDONLY | constants.O_NOFOLLOW));
  return path;
}
