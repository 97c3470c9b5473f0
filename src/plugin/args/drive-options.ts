import { type DiskBus, type DiskCache, diskAios, diskCaches, imageFormats, quoted } from '#spec';
import { directoryOf, takeDirectory } from './directory-drive.ts';
import { readFlash } from './firmware-options.ts';
import { refuseRest } from './machine-options.ts';
import { OptionText } from './option-text.ts';
import { driveTuning } from './tuning-keys.ts';
import { type DriveWish, type OptionKind, Refusal, type Wish } from './wish.ts';

const hardDisk = (name: string): OptionKind => ({
  names: [name],
  value: 'local/data.img',
  becomes: 'A further disk on IDE, by the rules of `-drive`.',
  read: (file) => [{ ...readHardDisk(file), bus: 'ide' }],
});

/** Disks and what the guest boots from. */
export const driveOptions: readonly OptionKind[] = [
  {
    names: ['drive'],
    value: 'file=local/data.img,if=virtio',
    becomes:
      'A further disk, on the bus of `if` or of the `-device` that has it. `file` is an image by the rules of `image`; the guest writes to it as it does to `image_path`. `media=cdrom`, `readonly`, `format`, `serial`, `cache`, `aio` and `snapshot` are kept. `format` may be one that is imported, such as `vmdk`; the guest writes to a copy then. `if=pflash` with OVMF or AAVMF is UEFI of the host; the files are not used, nor those of another `if=pflash` beside it, for the variables: each start begins with new ones, which an event reports. `fat:DIR`, or the driver `vvfat` with its `label`: a FAT disk with the files that the directory has at the start, by the rules of images for each of them; what the guest changes, with `rw` or on IDE, ends with the task. Other protocols, `sd`, `mtd` and `floppy` are refused.',
    read: readDrive,
  },
  {
    names: ['cdrom'],
    value: 'local/install.iso',
    becomes: 'A CD-ROM on IDE (aarch64: on SCSI), read-only.',
    read: (file) => [{ ...plain(checkFile(file)), cdrom: true, readOnly: true }],
  },
  ...['hda', 'hdb', 'hdc', 'hdd'].map(hardDisk),
  {
    names: ['boot'],
    value: 'order=d',
    becomes:
      'With `d` before `c` (`order` or `once`) the guest boots from the first CD-ROM, at every start. The rest has no effect.',
    read: readBoot,
  },
  {
    names: ['snapshot'],
    becomes: 'No disk of the job is written to; changes end with the task.',
    read: () => [{ kind: 'snapshot' }],
  },
  {
    names: ['blockdev'],
    value: '…',
    becomes: 'use `-drive`, or `disk` of this driver.',
  },
  {
    names: ['fda', 'fdb', 'sd', 'mtdblock'],
    value: '…',
    becomes: 'guests have no floppy, SD card or flash; use `disk`.',
  },
];

function plain(file: string): DriveWish {
  return {
    kind: 'drive',
    id: undefined,
    file,
    bus: undefined,
    cdrom: false,
    readOnly: false,
  };
}

function readHardDisk(file: string): DriveWish {
  const found = directoryOf(file);
  if (found === undefined) return plain(checkFile(file));
  const { writable, ...drive } = found;
  return { ...plain(found.file), ...drive, readOnly: !writable };
}

function readDrive(value: string): readonly Wish[] {
  const option = new OptionText(value);
  const file = option.take('file') ?? option.take('file.filename') ?? '';
  const wanted = option.take('if');
  if (wanted === 'pflash') return readFlash(file);
  const cdrom = option.take('media') === 'cdrom';
  const readOnly = option.takeSwitch('readonly') ?? option.takeSwitch('read-only');
  const format = option.take('format') ?? option.take('driver');
  const directory = takeDirectory(option, { file, format });
  const serial = option.take('serial');
  const cache = readCache(option);
  const aio = option.take('aio');
  const snapshot = option.takeSwitch('snapshot');
  const id = option.take('id');
  // The number of a bus; its kind is `if`.
  option.ignore('bus', ...driveTuning);
  if (option.rest.some((key) => /^(throttling|bps|iops)/.test(key))) {
    throw new Refusal('limits of I/O are not read: use `disk { throttle }`');
  }
  refuseRest(option);
  return [
    {
      kind: 'drive',
      id,
      ...(directory === undefined
        ? { file: checkFile(file), ...readFormat(format) }
        : { file: directory.file, directory: directory.directory }),
      bus: readInterface(wanted),
      cdrom,
      readOnly: readOnly ?? (directory === undefined ? cdrom : !directory.writable),
      ...(serial === undefined ? {} : { serial }),
      ...(cache === undefined ? {} : { cache }),
      ...readAio(aio),
      ...(snapshot === undefined ? {} : { snapshot }),
    },
  ];
}

/** `http:`, `nbd:` and the like are programs of QEMU that read something else than a file. */
function checkFile(file: string): string {
  const [, protocol] = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(file) ?? [];
  if (file === '') throw new Refusal('has no file');
  if (protocol === undefined) return file;
  throw new Refusal(
    instead[protocol.toLowerCase()] ?? `${quoted(file)} is no file; use an artifact`,
  );
}

const instead: Readonly<Record<string, string>> = {
  nbd: 'use `disk { source { nbd } }`',
  rbd: 'use a `disk` in a pool of `storage_pools`',
  json: 'use `disk`',
};

function readInterface(text: string | undefined): DiskBus | 'none' | undefined {
  if (text === undefined || text === '') return undefined;
  if (text === 'none' || text === 'ide' || text === 'scsi' || text === 'virtio') return text;
  throw new Refusal(`if=${text} is not supported: use ide, scsi or virtio`);
}

function readFormat(format: string | undefined): Pick<DriveWish, 'format'> {
  if (format === undefined) return {};
  const found = imageFormats.find((name) => name === format);
  if (found !== undefined) return { format: found };
  throw new Refusal(
    `format=${format} is not supported: use ${imageFormats.join(', ')}, or leave it out`,
  );
}

/** By its name, or by the switches that the name stands for. */
function readCache(option: OptionText): DiskCache | undefined {
  const text = option.take('cache');
  const isDirect = option.takeSwitch('cache.direct');
  const isUnsafe = option.takeSwitch('cache.no-flush');
  const isBack = option.takeSwitch('cache.writeback');
  if (text === undefined) {
    if ([isDirect, isUnsafe, isBack].every((it) => it === undefined)) return undefined;
    if (isUnsafe === true) return 'unsafe';
    if (isBack === false) return isDirect === true ? 'directsync' : 'writethrough';
    return isDirect === true ? 'none' : 'writeback';
  }
  const cache = diskCaches.find((name) => name === text);
  if (cache !== undefined) return cache;
  throw new Refusal(`cache=${text} is not supported: use ${diskCaches.join(', ')}`);
}

function readAio(text: string | undefined): Pick<DriveWish, 'aio'> {
  if (text === undefined) return {};
  const aio = diskAios.find((name) => name === text);
  if (aio !== undefined) return { aio };
  throw new Refusal(`aio=${text} is not supported: use ${diskAios.join(', ')}`);
}

function readBoot(value: string): readonly Wish[] {
  const option = new OptionText(value, 'order');
  const order = `${option.take('once') ?? ''}${option.take('order') ?? ''}`;
  option.ignore('menu', 'strict', 'splash', 'splash-time', 'reboot-timeout');
  refuseRest(option);
  if (!/^[a-p]*$/.test(order)) throw new Refusal(`${quoted(order)} is not an order of devices`);
  const cdrom = order.indexOf('d');
  const disk = order.indexOf('c');
  return cdrom >= 0 && (disk < 0 || cdrom < disk) ? [{ kind: 'cdrom-first' }] : [];
}
