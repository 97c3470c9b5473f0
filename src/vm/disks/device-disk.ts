import { constants } from 'node:fs';
import { closeLater, endOf, openAside, statAside, takesScsiCommands } from '#host';
import { type FirstSectors, isBlank, writeToDevice } from '#image';
import { type DiskSpec, diskKey, type Waiting } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { VmError, withVmError } from '../error.ts';
import { describe } from './describe.ts';
import type { CheckedDisk, DiskHost, DiskSeat, VolumePlace } from './disk.ts';
import { lockForVm } from './exclusive.ts';
import { copyEvents } from './import-events.ts';
import { diskIo } from './io.ts';
import type { ImageFacts } from './plan.ts';
import { openSource, type Source } from './source.ts';

/** Keys that have no meaning for a block device, which has a size and a content of its own. */
const unsupported = ['sizeBytes', 'chained'] as const;
const jobKeys = { sizeBytes: 'size', chained: 'chained' };

/**
 * Checks a disk that is a block device of a Nomad volume. An image is written to the device only while the device is
 * blank. Throws VmError naming the key that is wrong.
 */
export async function checkDeviceDisk(
  asked: DiskSpec,
  place: VolumePlace,
  host: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  const spec = { ...asked, readOnly: asked.readOnly || place.readOnly };
  checkKeys(spec, place);
  using opened = new DisposableStack();
  const device = opened.use(await openDevice(spec, place));
  const source = await openSource(spec, { pool: undefined, to: 'raw', host }, waiting);
  if (source !== undefined) opened.use(source);
  const { written } = device;
  if (written === undefined && source !== undefined) checkFirst(spec, source, device);
  const owned = opened.move();
  return {
    spec,
    get image() {
      return written ?? source?.image;
    },
    content: device.content,
    prepare: (seat, site, waiting) => prepare({ spec, source, place, seat }, site, waiting),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

interface Device extends Disposable {
  readonly path: string;
  readonly bytes: number;
  /** As that of a checked disk. */
  readonly content: string;
  /** For a look at how it boots; undefined for a blank one. */
  readonly written: FirstSectors | undefined;
}

async function openDevice(spec: DiskSpec, { hostPath: path }: VolumePlace): Promise<Device> {
  using opened = new DisposableStack();
  const device = await withVmError(
    async () => {
      const fd = opened.adopt(await openAside(path, constants.O_RDONLY), closeLater);
      const bytes = await endOf(fd);
      const first = { fd, path, format: 'raw', fileBytes: bytes } as const;
      const content = `device ${(await statAside(fd)).rdev}`;
      return { fd, path, bytes, content, written: (await isBlank(fd)) ? undefined : first };
    },
    diskKey(spec, 'volume'),
  );
  if (spec.kind === 'lun' && !(await takesScsiCommands(device.fd))) {
    const text = `${path} is a block device that takes no SCSI commands; use kind = "disk"`;
    throw new VmError('job', `${diskKey(spec, 'kind')}: ${text}`);
  }
  const owned = opened.move();
  return { ...device, [Symbol.dispose]: () => owned.dispose() };
}

/** Throws VmError where a blank device can't become what the job wants. */
function checkFirst(spec: DiskSpec, { facts }: Source, { path, bytes }: Device): void {
  if (spec.readOnly) {
    const text = `can not be written to ${path}, which is blank, because the disk is read-only`;
    throw new VmError('job', `${diskKey(spec, 'source.image')}: the image ${text}`);
  }
  // The size of what is compressed is known when it was imported.
  if (facts !== undefined) checkFits(spec, facts, bytes);
}

function checkKeys(spec: DiskSpec, { file }: VolumePlace): void {
  const text = 'cannot be set when the Nomad volume is a block device';
  const wrong: string[] = unsupported
    .filter((key) => spec[key] !== undefined && spec[key] !== false)
    .map((key) => `${diskKey(spec, jobKeys[key])} ${text}`);
  if (file !== undefined) wrong.push(`${diskKey(spec, 'file')} ${text}`);
  if (spec.statesSparse === true) wrong.push(`${diskKey(spec, 'sparse')} ${text}`);
  if (spec.format === 'qcow2')
    wrong.push(`${diskKey(spec, 'format')} can only be raw for a block device`);
  if (wrong.length > 0) throw new VmError('job', wrong.join('; '));
}

async function prepare(
  wanted: {
    readonly spec: DiskSpec;
    readonly source: Source | undefined;
    readonly place: VolumePlace;
    readonly seat: DiskSeat;
  },
  site: Site,
  waiting: Waiting,
): Promise<Prepared> {
  const { spec, source, place, seat } = wanted;
  const { files, emit } = site;
  const read = files.add(`${seat.id}-read`, await openAside(place.hostPath, constants.O_RDONLY));
  const virtualBytes = await endOf(read);
  if (!spec.readOnly) {
    const fd = files.add(seat.id, await openAside(place.hostPath, constants.O_RDWR));
    await lockForVm(spec, { fd, path: place.hostPath });
    if (source !== undefined && (await isBlank(fd))) {
      const image = await source.ready(site, waiting);
      checkFits(spec, image, virtualBytes);
      const onProgress = copyEvents('Writing the image to the volume', image.path, emit);
      await writeToDevice(image, fd, { ...waiting, onProgress });
    }
  }
  const plan = { format: 'raw', base: undefined, virtualBytes, growBeforeBoot: false } as const;
  const io = await diskIo(spec, { durable: true, fd: read });
  return describe({ spec, seat, image: source?.image, plan }, place.hostPath, {
    io,
    // A device is no file that could grow.
    maxFileBytes: 0,
    protocol: { driver: 'host_device' },
    locked: true,
  });
}

function checkFits(spec: DiskSpec, { virtualBytes }: ImageFacts, deviceBytes: number): void {
  if (virtualBytes <= deviceBytes) return;
  const text = `the image has ${virtualBytes} bytes, and the volume's device has ${deviceBytes}`;
  throw new VmError('job', `${diskKey(spec, 'source.image')}: ${text}`);
}
