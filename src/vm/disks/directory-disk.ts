import { constants } from 'node:fs';
import { closeLater, createFile, openAside } from '#host';
import { FatDirectory } from '#image';
import { type DiskSource, type DiskSpec, diskKey, type Waiting } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { withVmError } from '../error.ts';
import { describe } from './describe.ts';
import type { CheckedDisk, DiskHost, DiskSeat } from './disk.ts';
import { diskIo } from './io.ts';
import { createIn } from './pool.ts';

/**
 * Checks a disk with the files of a directory, which is made for the VM and goes with it: the directory is only read, and
 * only before the guest runs. Throws VmError naming the key that is wrong.
 */
export async function checkDirectoryDisk(
  spec: DiskSpec,
  { directory, label }: Extract<DiskSource, { kind: 'directory' }>,
  { files: roots }: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  const files = await withVmError(
    () => FatDirectory.open(directory, { roots, label }, waiting),
    diskKey(spec, 'source.image'),
  );
  return {
    spec,
    image: undefined,
    prepare: (seat, site, waiting) => prepare({ spec, files, seat }, site, waiting),
    [Symbol.dispose]: () => files[Symbol.dispose](),
  };
}

async function prepare(
  {
    spec,
    files,
    seat,
  }: { readonly spec: DiskSpec; readonly files: FatDirectory; readonly seat: DiskSeat },
  site: Site,
  waiting: Waiting,
): Promise<Prepared> {
  const { virtualBytes } = files;
  if (!spec.readOnly) {
    site.emit('Changes to the disk end with the task: the directory is only read', {
      directory: files.path,
    });
  }
  const path = await createIn(undefined, spec, site, async (path) => {
    using opened = new DisposableStack();
    const fd = opened.adopt(await createFile(path), closeLater);
    await withVmError(() => files.write(fd, waiting), diskKey(spec, 'source.image'));
  });
  const read = site.files.add(`${seat.id}-read`, await openAside(path, constants.O_RDONLY));
  if (!spec.readOnly) site.files.add(seat.id, await openAside(path, constants.O_RDWR));
  const io = await diskIo(spec, { durable: false, fd: read });
  const plan = { format: 'raw', base: undefined, virtualBytes, growBeforeBoot: false } as const;
  return describe({ spec, seat, image: undefined, plan }, path, {
    io,
    maxFileBytes: virtualBytes,
  });
}
