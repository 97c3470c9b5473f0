const ownFormats = ['raw', 'qcow2'] as const;
const foreignFormats = ['vmdk', 'vdi', 'vhdx', 'vpc'] as const;
/** What an image may be. */
export const imageFormats = [...ownFormats, ...foreignFormats] as const;
/** The formats that are given to QEMU. */
export type DiskFormat = (typeof ownFormats)[number];
/** Formats of image files that are imported: converted before any disk is created from them. */
export type ForeignFormat = (typeof foreignFormats)[number];

/** `cdrom` is read-only with a removable medium; `lun` passes SCSI commands through to a block device of the host. */
export const diskKinds = ['disk', 'cdrom', 'lun'] as const;
export type DiskKind = (typeof diskKinds)[number];

/** How the guest sees the disk. `ide` and `sata` are the same on machines that only have AHCI. */
export const diskBuses = ['virtio', 'scsi', 'sata', 'ide', 'usb'] as const;
export type DiskBus = (typeof diskBuses)[number];
export interface Checksum {
  readonly algorithm: 'sha256' | 'sha512';
  /** In lower case. */
  readonly hex: string;
}

/** What a disk is created from. */
export type DiskSource =
  | {
      readonly kind: 'image';
      /** As written in the job: absolute, or relative to the task directory. Checked against the allow-list when opened. */
      readonly image: string;
      /** As the job states it; undefined: recognised by the content. */
      readonly format?: DiskFormat | ForeignFormat;
      /** Of the file that the job names, not of what is unpacked from it. */
      readonly checksum?: Checksum;
      /** Name of the disk's file in an archive; undefined: the only one that is a disk. */
      readonly member?: string;
    }
  /** A volume of the pool that the disk is created in. */
  | { readonly kind: 'volume'; readonly volume: string }
  /** A FAT disk with the files that a directory has at the start; named and allowed like an image. */
  | {
      readonly kind: 'directory';
      readonly directory: string;
      /** Of the FAT file system: at most 11 characters. */
      readonly label: string;
    };

/** Where the content of a disk is kept. */
export type DiskPlace =
  /** A volume of a storage pool, created with the VM and removed with it. undefined: the driver's own pool, in data_dir. */
  | { readonly kind: 'pool'; readonly pool: string | undefined }
  /**
   * A Nomad volume, which the client has at `hostPath`: a block device is the disk itself; in a directory the disk is
   * a file that is created at its first use and kept.
   */
  | {
      readonly kind: 'volume';
      readonly hostPath: string;
      /** Of the mount: whatever the disk is, nothing is written. */
      readonly readOnly: boolean;
      /** Plain name of the file; undefined: `<name>.<format>`. */
      readonly file?: string;
    }
  /** An export of an NBD server, by TCP or by a unix socket of the host. */
  | { readonly kind: 'nbd'; readonly server: NbdServer; readonly export: string };

/**
 * The name of a disk's file in a directory. Its format is the job's, or that of the name: never what the file contains,
 * because a guest can write any format's mark into a raw disk.
 */
export function keptFile(
  { name, format }: Pick<DiskSpec, 'name' | 'format'>,
  { file = '' }: Pick<Extract<DiskPlace, { kind: 'volume' }>, 'file'>,
): { readonly name: string; readonly format: DiskFormat } {
  const known = format ?? (/\.(raw|img|iso)$/.test(file) ? 'raw' : 'qcow2');
  return { name: file || `${name}.${known}`, format: known };
}

export type NbdServer =
  | { readonly host: string; readonly port: number }
  | { readonly socket: string };

/** Limits of a disk's I/O, per second; absent: none. */
export interface DiskThrottle {
  readonly iops?: number;
  readonly iopsRead?: number;
  readonly iopsWrite?: number;
  readonly bytes?: number;
  readonly bytesRead?: number;
  readonly bytesWrite?: number;
  /** How many seconds' worth of a limit may be used at once after a time of rest; 1 when left out. */
  readonly burstSeconds?: number;
}

/** How QEMU caches a disk; the modes are those of its `cache=`. */
export const diskCaches = ['none', 'writeback', 'writethrough', 'directsync', 'unsafe'] as const;
export type DiskCache = (typeof diskCaches)[number];

/** How QEMU reads and writes it; the names are those of its `aio=`. */
export const diskAios = ['threads', 'native', 'io_uring'] as const;
export type DiskAio = (typeof diskAios)[number];

export interface DiskSpec {
  /** Number of the `disk` block in the job, from 1; undefined in a job with `image` and its like instead of blocks. */
  readonly block?: number;
  /** The place in the job that the disk is from, where it is no key of this driver: `image_path`, `args[4]`. */
  readonly key?: string;
  /** Name as in the job or assigned, e.g. `vda`; unique in the VM. The guest's kernel may use another one. */
  readonly name: string;
  readonly kind: DiskKind;
  readonly bus: DiskBus;
  readonly place: DiskPlace;
  /** undefined: an empty disk, or what is at the place already. */
  readonly source?: DiskSource;
  /** undefined: the source's when it is copied, else qcow2. */
  readonly format?: DiskFormat;
  /** Wanted virtual size in bytes; undefined: the source's. */
  readonly sizeBytes?: number;
  /** true: an overlay of the source; false: a private copy. */
  readonly chained: boolean;
  /** The image itself is the disk where it lies in the task's own directories and needs no conversion. */
  readonly inPlace?: boolean;
  readonly readOnly: boolean;
  /** false: all of the disk's space is allocated at its creation. */
  readonly sparse: boolean;
  /** The job states `sparse`. */
  readonly statesSparse?: boolean;
  /** The disk that the guest boots from; one in a VM. */
  readonly primary: boolean;
  /** At most 20 bytes; undefined: `primary` for the primary disk, else the name. */
  readonly serial?: string;
  /** undefined: by what the file system at the place can do. */
  readonly cache?: DiskCache;
  readonly aio?: DiskAio;
  /** false: the guest's discards are ignored. */
  readonly discard: boolean;
  readonly throttle?: DiskThrottle;
}

/** The disk of a VM that has one, on a copy or an overlay of an image. */
export function primaryDisk({
  image,
  sizeBytes,
  thin,
}: {
  readonly image: string;
  readonly sizeBytes?: number;
  readonly thin: boolean;
}): DiskSpec {
  return {
    name: 'vda',
    kind: 'disk',
    bus: 'virtio',
    place: { kind: 'pool', pool: undefined },
    source: { kind: 'image', image },
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    chained: thin,
    readOnly: false,
    sparse: true,
    primary: true,
    discard: true,
  };
}

/** Keys of a disk that have another name in jobs without `disk` blocks. */
const firstGeneration = {
  'source.image': 'image',
  size: 'primary_disk_size',
  chained: 'use_thin_copy',
};

/** A key of the disk as the job has it, for messages: `disk[2].size`, or `primary_disk_size`. */
export function diskKey(disk: Pick<DiskSpec, 'block' | 'key'>, key: string): string {
  if (disk.key !== undefined) return key === 'source.image' ? disk.key : `${disk.key} (${key})`;
  if (disk.block !== undefined) return `disk[${disk.block}].${key}`;
  return Object.entries(firstGeneration).find(([name]) => name === key)?.[1] ?? key;
}

/** The size of a disk that has room for so many bytes: whole sectors of 512. */
export function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / 512) * 512;
}
