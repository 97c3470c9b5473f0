import { type DiskBus, type DiskSpec, primaryDisk, quoted, type VmSpec } from '#spec';
import type { Report } from '../../hcl/problem.ts';
import type { Decoded } from '../../hcl/schema.ts';
import { maxDisks } from '../disks/disks.ts';
import { diskName } from '../disks/names.ts';
import { serialProblem } from '../disks/serial.ts';
import { argKey, type Wishes } from './args.ts';
import type { builtinFields } from './fields.ts';

type Raw = Pick<Decoded<typeof builtinFields>, 'image_path' | 'drive_interface'>;
type Drive = ReturnType<Wishes['all']>[number] & { readonly kind: 'drive' };

/** `image_path`, and a device of `args` may have it. */
const bootDrive = 'image0';

/** The disks of `image_path` and of `args`. */
export function readDrives(
  { image_path: image = '', drive_interface: wanted }: Raw,
  {
    arch,
    wishes,
    report,
  }: { readonly arch: VmSpec['arch']; readonly wishes: Wishes; readonly report: Report },
): readonly DiskSpec[] {
  const usual = arch === 'aarch64' ? 'virtio' : 'ide';
  const first = {
    ...primaryDisk({ image, thin: true }),
    key: 'image_path',
    bus: readInterface(wanted, report) ?? usual,
    ...(wishes.has('snapshot') ? {} : { inPlace: true }),
  } as const;
  const boot = plugged(first, bootDrive, wishes);
  const others = wishes.all('drive').flatMap((drive) => readDrive(drive, { arch, wishes }));
  const disks = named([boot, ...others]);
  checkDrives(disks, wishes, report);
  const primary = findPrimary(disks, wishes);
  return disks.map((disk) => ({ ...withoutBootIndex(disk), primary: disk === primary }));
}

type Plugged = DiskSpec & { readonly bootIndex?: number };

function withoutBootIndex({ bootIndex: _, ...disk }: Plugged): DiskSpec {
  return disk;
}

function readInterface(wanted: Raw['drive_interface'], report: Report): DiskBus | undefined {
  if (wanted === undefined || wanted === 'none') return undefined;
  if (wanted === 'ide' || wanted === 'scsi' || wanted === 'virtio') return wanted;
  report('drive_interface', `${quoted(wanted)} is not supported: use ide, scsi or virtio`);
  return undefined;
}

/** One without a bus is nothing until a device has it. */
function readDrive(
  drive: Drive,
  { arch, wishes }: { readonly arch: VmSpec['arch']; readonly wishes: Wishes },
): readonly Plugged[] {
  const { bus, cdrom, file, directory, format, readOnly, snapshot, serial, cache, aio } = drive;
  const isUnplugged =
    bus === 'none' && wishes.all('drive-device').every((device) => device.drive !== drive.id);
  if (isUnplugged) return [];
  const usual = arch === 'x86_64' ? 'ide' : cdrom ? 'scsi' : 'virtio';
  const isPrivate = directory !== undefined || snapshot === true || wishes.has('snapshot');
  const disk: DiskSpec = {
    ...primaryDisk({ image: file, thin: !readOnly }),
    key: argKey(drive.at),
    // QEMU has no CD-ROM on virtio: there it is a disk that can't be written.
    kind: cdrom && bus !== 'virtio' ? 'cdrom' : 'disk',
    bus: bus === undefined || bus === 'none' ? usual : bus,
    source:
      directory === undefined
        ? { kind: 'image', image: file, ...(format && { format }) }
        : { kind: 'directory', directory: file, ...directory },
    readOnly,
    ...(readOnly || isPrivate ? {} : { inPlace: true }),
    ...(serial === undefined ? {} : { serial }),
    ...(cache === undefined ? {} : { cache }),
    ...(aio === undefined ? {} : { aio }),
  };
  return [withAccess(plugged(disk, drive.id, wishes))];
}

/** A disk on IDE can't be read-only: that of a directory is the VM's own, so that its guest may as well write to it. */
function withAccess(disk: Plugged): Plugged {
  const isWritable = disk.kind === 'disk' && (disk.bus === 'ide' || disk.bus === 'sata');
  return disk.source?.kind === 'directory' && isWritable ? { ...disk, readOnly: false } : disk;
}

/** The disk as the device that names its drive has it. */
function plugged(disk: DiskSpec, id: string | undefined, wishes: Wishes): Plugged {
  const device = wishes.all('drive-device').findLast(({ drive }) => drive === id);
  if (device === undefined) return disk;
  const { bus, cdrom, serial, bootIndex } = device;
  return {
    ...disk,
    bus,
    ...(cdrom ? { kind: 'cdrom', readOnly: true, chained: false } : {}),
    ...(serial === undefined ? {} : { serial }),
    ...(bootIndex === undefined ? {} : { bootIndex }),
  };
}

/** `vda` and the next on virtio, `sda` and the next elsewhere. */
function named(disks: readonly Plugged[]): readonly Plugged[] {
  const counts = { vd: 0, sd: 0 };
  return disks.map((disk) => {
    const prefix = disk.bus === 'virtio' ? 'vd' : 'sd';
    counts[prefix] += 1;
    return { ...disk, name: diskName(prefix, counts[prefix]) };
  });
}

function checkDrives(disks: readonly Plugged[], wishes: Wishes, report: Report): void {
  if (disks.length > maxDisks) {
    report('args', `${disks.length} disks are more than the ${maxDisks} possible`);
  }
  const ids = new Set([bootDrive, ...wishes.all('drive').map(({ id }) => id)]);
  for (const { drive, at } of wishes.all('drive-device')) {
    if (!ids.has(drive)) report(argKey(at), `-device: there is no -drive with id=${drive}`);
  }
  for (const { serial, key = '', aio, cache } of disks) {
    const problem = serial === undefined ? undefined : serialProblem(serial);
    if (problem !== undefined) report(key, problem);
    if (aio === 'native' && cache !== 'none' && cache !== 'directsync') {
      report(key, 'aio=native needs cache=none or cache=directsync');
    }
  }
}

/** The disk that the guest boots from: that of the lowest boot index, or the CD-ROM where the job asks for that. */
function findPrimary(disks: readonly Plugged[], wishes: Wishes): Plugged | undefined {
  const indexed = disks
    .filter(({ bootIndex }) => bootIndex !== undefined)
    .toSorted((a, b) => (a.bootIndex ?? 0) - (b.bootIndex ?? 0));
  const cdrom = wishes.has('cdrom-first') ? disks.find(({ kind }) => kind === 'cdrom') : undefined;
  return indexed[0] ?? cdrom ?? disks[0];
}
