import { diskAios, diskBuses, diskCaches, diskKinds } from '#spec';
import type { Report } from '../../hcl/problem.ts';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import { sourceFields } from './source.ts';
import { throttleFields } from './throttle.ts';

const blockFields = {
  pool: {
    kind: 'attr',
    type: 'string',
    doc: 'The storage pool that the disk is created in. Default: the default pool.',
    example: '"local"',
  },
  volume: {
    kind: 'attr',
    type: 'string',
    doc: 'Destination, or name, of a `volume_mount`: the disk is that block device, or a file in that directory, which is created at its first use and kept.',
    example: '"/data"',
  },
  file: {
    kind: 'attr',
    type: 'string',
    doc: "Name of the disk's file in a `volume` that is a directory, and only there. Default: the disk's name and format, such as `vdb.qcow2`.",
    example: '"database.qcow2"',
  },
  devname: {
    kind: 'attr',
    type: 'string',
    doc: 'Name of the disk; the guest may use another one. Default: the last part of a `volume` in `/dev`, else the next of `vda`, `vdb` … on virtio and of `sda`, `sdb` … elsewhere.',
    example: '"vda"',
  },
  driver: {
    kind: 'attr',
    type: 'string',
    oneOf: ['qemu'],
    doc: 'Has no effect.',
    example: '"qemu"',
  },
  kind: {
    kind: 'attr',
    type: 'string',
    default: 'disk',
    oneOf: diskKinds,
    doc: 'A `cdrom` is read-only. A `lun` passes SCSI commands through to the block device of a `volume`: it has no `serial`, `cache`, `aio`, `discard` and `throttle`.',
    example: '"disk"',
  },
  bus_type: {
    kind: 'attr',
    type: 'string',
    oneOf: diskBuses,
    doc: 'Default: `virtio`; for a lun `scsi`; for a cdrom `ide`, on aarch64 `scsi`. A cdrom can not be on virtio, a lun only on scsi.',
    example: '"virtio"',
  },
  format: {
    kind: 'attr',
    type: 'string',
    doc: '`raw` or `qcow2`; in a ceph pool, on a block device and for NBD only `raw`, which is the default there. Default elsewhere: that of a copied image, else `qcow2`, or what the name in `file` states.',
    example: '"qcow2"',
  },
  primary: {
    kind: 'attr',
    type: 'bool',
    default: false,
    doc: 'The disk that the guest boots from; one of them. Needed when there is more than one disk that is no cdrom.',
    example: 'true',
  },
  size: {
    kind: 'attr',
    type: 'string',
    doc: 'A number with a unit, with decimals where that makes sense (`1.5TiB`): `GB` is a power of 1000, `GiB` and `G` one of 1024; bytes without a unit. At least that of the source, and `limits.min_disk_mb` for the primary disk; at most `limits.max_disk_mb`. Default: the size of the source; required without one.',
    example: '"20GiB"',
  },
  chained: {
    kind: 'attr',
    type: 'bool',
    default: false,
    doc: 'true: the disk is an overlay that only holds what differs from its source. false: the disk is a private copy. The source is never written to.',
    example: 'true',
  },
  read_only: {
    kind: 'attr',
    type: 'bool',
    default: false,
    doc: 'The guest can not write to the disk. Always so for a cdrom and for a read-only `volume_mount`. The disk is its source itself then, not a copy: `chained`, `format` and `sparse` change nothing.',
    example: 'false',
  },
  sparse: {
    kind: 'attr',
    type: 'bool',
    doc: 'false: all space of the disk is allocated when it is created, and when it becomes larger. Default: false for `format = "raw"` in a directory, else true. Not false in a ceph pool.',
    example: 'true',
  },
  serial: {
    kind: 'attr',
    type: 'string',
    doc: 'Serial number in the guest, where the disk is `/dev/disk/by-id/virtio-SERIAL` or the like: at most 20 letters, digits, dots, dashes and underscores. Default: `primary` for the primary disk, else the name.',
    example: '"database"',
  },
  cache: {
    kind: 'attr',
    type: 'string',
    oneOf: diskCaches,
    doc: "How the host caches the disk, as in QEMU; in a ceph pool and for NBD: how QEMU's client does. Default: by what the file system can do, `writeback` in a ceph pool and for NBD.",
    example: '"none"',
  },
  aio: {
    kind: 'attr',
    type: 'string',
    oneOf: diskAios,
    doc: 'How QEMU reads and writes it. `native` needs the cache `none` or `directsync`. Not in a ceph pool nor for NBD. Default: by what the file system can do.',
    example: '"native"',
  },
  discard: {
    kind: 'attr',
    type: 'bool',
    doc: "Whether the guest's discards free space on the host. Default: as `sparse`.",
    example: 'true',
  },
  source: {
    kind: 'block',
    doc: 'What the disk is created from: one of `image`, `volume` and `nbd`. Without it the disk is empty.',
    fields: sourceFields,
  },
  throttle: {
    kind: 'block',
    doc: "Limits of the disk's I/O. A total can not be combined with limits for reading and writing.",
    fields: throttleFields,
  },
} as const satisfies Fields;

export const diskFields = {
  disk: {
    kind: 'block-list',
    firstIndex: 1,
    doc: 'A disk of the guest; at most 39. Not together with `image`, `primary_disk_size` and `use_thin_copy`.',
    fields: blockFields,
  },
} as const satisfies Fields;

/** A `disk` block as it is decoded. */
export type RawDisk = Decoded<typeof blockFields>;

/** A `disk` block while it is read. */
export interface DiskBlock {
  readonly raw: RawDisk;
  /** From 1, in the order of the job. */
  readonly number: number;
  /** Reports what is wrong with a key of the block. */
  readonly report: Report;
}
