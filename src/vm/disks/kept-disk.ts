import { constants } from 'node:fs';
import { closeLater, reopenAside } from '#host';
import { checkDiskFile, growRaw, markedFormat, type OpenImage } from '#image';
import {
  type DiskFormat,
  type DiskSpec,
  diskKey,
  keptFile,
  type Waiting,
  wholeSectors,
} from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { VmError, withVmError } from '../error.ts';
import { allocate } from '../store/allocate.ts';
import { KeptFile } from '../store/kept-file.ts';
import { writeContent } from './content.ts';
import { describe } from './describe.ts';
import type { CheckedDisk, DiskHost, DiskSeat, VolumePlace } from './disk.ts';
import { lockForVm } from './exclusive.ts';
import { diskIo } from './io.ts';
import { fileBytesOf, planDisk } from './plan.ts';
import { openSource, type Source } from './source.ts';

/**
 * Checks a disk that is a file in a Nomad volume: created at its first use as in the job, kept from then on.
 * Throws VmError naming the key that is wrong.
 */
export async function checkKeptDisk(
  spec: DiskSpec,
  place: VolumePlace,
  host: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  if (spec.chained) {
    const text =
      "can't be set for a disk that is kept: it must not depend on an image that may change";
    throw new VmError('job', `${diskKey(spec, 'chained')} ${text}`);
  }
  const { name, format } = keptFile(spec, place);
  const wanted = { ...spec, format, readOnly: spec.readOnly || place.readOnly };
  using opened = new DisposableStack();
  const file = opened.use(
    await withVmError(() => KeptFile.in(place.hostPath, name), diskKey(spec, 'volume')),
  );
  const present = await openPresent(wanted, file, host);
  if (present !== undefined) opened.use(present);
  const wantedSource = { pool: undefined, to: format, host };
  const source = present === undefined ? await openSource(spec, wantedSource, waiting) : undefined;
  if (source !== undefined) opened.use(source);
  if (present === undefined) checkFirst(wanted, source, file);
  const owned = opened.move();
  return {
    spec,
    get image() {
      return present ?? source?.image;
    },
    content: file.identity,
    prepare: (seat, site, waiting) => prepare({ wanted, source, file, seat, host }, site, waiting),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

type Wanted = DiskSpec & { readonly format: DiskFormat };

/** Throws VmError where the disk can't be created. */
function checkFirst(spec: Wanted, source: Source | undefined, file: KeptFile): void {
  if (spec.readOnly) throw missing(spec, file);
  // The size of what is compressed is known when it was imported.
  if (source === undefined || source.facts !== undefined) planDisk(spec, source?.facts);
}

function missing(spec: Wanted, { path }: KeptFile): VmError {
  const text = `${path} does not exist, and a disk that is read-only is not created: put the file there`;
  return new VmError('job', `${diskKey(spec, 'volume')}: ${text}`);
}

/** The disk as it is; undefined before its first use. */
async function openPresent(
  spec: Wanted,
  file: KeptFile,
  { maxImageBytes }: DiskHost,
): Promise<OpenImage | undefined> {
  return withVmError(
    async () => {
      const fd = await file.open();
      if (fd === undefined) return undefined;
      const { path } = file;
      try {
        await checkFormat(spec, { fd, path });
      } catch (error) {
        closeLater(fd);
        throw error;
      }
      const limits = { maxVirtualBytes: maxImageBytes, format: spec.format };
      return await checkDiskFile({ fd, path }, limits);
    },
    diskKey(spec, 'volume'),
  );
}

/** Throws VmError where the job, or the name of its file, states another format than a disk has that is there. */
async function checkFormat(
  spec: Wanted,
  file: { readonly fd: number; readonly path: string },
): Promise<void> {
  const { format } = spec;
  const marked = await markedFormat(file);
  const isWrong =
    format === 'qcow2' ? marked !== 'qcow2' : marked === 'qcow2' && file.path.endsWith('.qcow2');
  if (!isWrong) return;
  const text = `${file.path} is ${marked}, not ${format}: state what it is`;
  throw new VmError('job', `${diskKey(spec, 'format')}: ${text}`);
}

interface ToPrepare {
  readonly wanted: Wanted;
  /** What it is created from at its first use. */
  readonly source: Source | undefined;
  readonly file: KeptFile;
  readonly seat: DiskSeat;
  readonly host: DiskHost;
}

async function prepare(toPrepare: ToPrepare, site: Site, waiting: Waiting): Promise<Prepared> {
  const { wanted: spec, file, seat } = toPrepare;
  using disk = await openOrCreate(toPrepare, site, waiting);
  const read = site.files.add(`${seat.id}-read`, await reopenAside(disk.fd, constants.O_RDONLY));
  const { virtualBytes: now, fileBytes } = disk;
  const virtualBytes = keptSize(spec, now);
  const wantedBytes = wholeSectors(spec.sizeBytes ?? 0);
  if (wantedBytes > 0 && wantedBytes !== virtualBytes) {
    // An operator has made it larger, or the job has another size now.
    const other = wantedBytes < now ? 'larger' : 'smaller';
    site.emit(`The disk in the volume keeps its size, which is ${other} than the job's`, {
      path: file.path,
      bytes: String(now),
    });
  }
  if (!spec.readOnly) {
    const fd = site.files.add(seat.id, await reopenAside(disk.fd, constants.O_RDWR));
    await lockForVm(spec, { fd, path: file.path });
    await growTo(virtualBytes, spec, { fd, path: file.path, now });
  }
  const growBeforeBoot = !spec.readOnly && spec.format === 'qcow2' && virtualBytes > now;
  const plan = { format: spec.format, base: undefined, virtualBytes, growBeforeBoot };
  return describe({ spec, seat, image: undefined, plan }, file.path, {
    io: await diskIo(spec, { durable: true, fd: read }),
    maxFileBytes: fileBytesOf('copy', spec.format, virtualBytes, fileBytes),
    readOnly: spec.readOnly,
    locked: true,
  });
}

async function openOrCreate(
  { wanted: spec, source, file, host }: ToPrepare,
  site: Site,
  waiting: Waiting,
): Promise<OpenImage> {
  const present = await openPresent(spec, file, host);
  if (present !== undefined) return present;
  if (spec.readOnly) throw missing(spec, file);
  const { path } = file;
  site.emit('Creating the disk in the volume', { path });
  const image = await source?.ready(site, waiting);
  const plan = planDisk(spec, image);
  const fill = (fd: number) => writeContent(fd, { path, spec, image, plan }, site, waiting);
  await file.create(fill, waiting);
  const created = await openPresent(spec, file, host);
  if (created === undefined) throw new VmError('host', `${path} disappeared`);
  return created;
}

/** It never shrinks. A disk that is read-only is as it is. */
function keptSize(spec: Wanted, now: number): number {
  return spec.readOnly ? now : Math.max(now, wholeSectors(spec.sizeBytes ?? 0));
}

/** A qcow2 disk gets its size from QEMU, before the guest runs; here the room for it. */
async function growTo(
  virtualBytes: number,
  { format, sparse }: Wanted,
  { fd, path, now }: { readonly fd: number; readonly path: string; readonly now: number },
): Promise<void> {
  if (!sparse && virtualBytes > now) {
    await allocate(fd, { path, bytes: fileBytesOf('empty', format, virtualBytes, 0) });
  }
  if (format === 'raw') await growRaw(fd, virtualBytes);
}
