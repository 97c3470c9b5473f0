import { constants } from 'node:fs';
import { closeFd, endOf, openPath } from '#host';
import { type FirstSectors, isBlank, type OpenImage, writeToDevice } from '#image';
import { type DiskSpec, diskKey, type Waiting } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { VmError, withVmError } from '../error.ts';
import { describe } from './describe.ts';
import type { CheckedDisk, DiskHost, DiskSeat, VolumePlace } from './disk.ts';
import { diskIo } from './io.ts';
import { openSource, type Source } from './source.ts';

/** Keys that have no meaning for a block device, which has a size and a content of its own. */
const unsupported = ['sizeBytes', 'chained'] as const;
const jobKeys = { sizeBytes: 'size', chained: 'chained' };

/**
 * Checks a disk that is a block device of a Nomad volume. An image is written to the device only while the device is
 * blank. Throws VmError naming the key that is wrong.
 */
export async function checkDeviceDisk(
  spec: DiskSpec,
  place: VolumePlace,
  host: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  checkKeys(spec);
  using opened = new DisposableStack();
  const written = await openWritten(spec, place);
  if (written !== undefined) opened.defer(() => closeFd(written.fd));
  const source = await openSource(spec, { pool: undefined, to: 'raw', host }, waiting);
  if (source !== undefined) opened.use(source);
  const owned = opened.move();
  return {
    spec,
    get image() {
      return written ?? source?.image;
    },
    prepare: (seat, site, waiting) => prepare({ spec, source, place, seat }, site, waiting),
    [Symbol.dispose]: () => owned.dispose(),
  };
}

/** A device that was written before, for a look at how it boots; undefined for a blank one. */
async function openWritten(
  spec: DiskSpec,
  { hostPath: path }: VolumePlace,
): Promise<FirstSectors | undefined> {
  return withVmError(
    async () => {
      const fd = openPath(path, constants.O_RDONLY);
      let isKept = false;
      try {
        isKept = !(await isBlank(fd));
        return isKept ? { fd, path, format: 'raw', fileBytes: endOf(fd) } : undefined;
      } finally {
        if (!isKept) closeFd(fd);
      }
    },
    diskKey(spec, 'volume'),
  );
}

function checkKeys(spec: DiskSpec): void {
  const text = 'cannot be set when the Nomad volume is a block device';
  const wrong: string[] = unsupported
    .filter((key) => spec[key] !== undefined && spec[key] !== false)
    .map((key) => `${diskKey(spec, jobKeys[key])} ${text}`);
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
  const readOnly = spec.readOnly || place.readOnly;
  const read = files.add(`${seat.id}-read`, openPath(place.hostPath, constants.O_RDONLY));
  const virtualBytes = endOf(read);
  if (!readOnly) {
    const fd = files.add(seat.id, openPath(place.hostPath, constants.O_RDWR));
    if (source !== undefined && (await isBlank(fd))) {
      const image = await source.ready(site, waiting);
      checkFits(spec, image, virtualBytes);
      emit('Writing the image to the volume', { image: image.path });
      await writeToDevice(image, fd, waiting);
    }
  }
  const plan = { format: 'raw', base: undefined, virtualBytes, growBeforeBoot: false } as const;
  const io = diskIo(spec, { durable: true, fd: read });
  return describe({ spec, seat, image: source?.image, plan }, place.hostPath, {
    io,
    // A device is no file that could grow.
    maxFileBytes: 0,
    readOnly,
    protocol: { driver: 'host_device' },
    locked: true,
  });
}

function checkFits(spec: DiskSpec, { path, virtualBytes }: OpenImage, deviceBytes: number): void {
  if (virtualBytes <= deviceBytes) return;
  const text = `${path} has ${virtualBytes} bytes, and the volume's device has ${deviceBytes}`;
  throw new VmError('job', `${diskKey(spec, 'source.image')}: ${text}`);
}
