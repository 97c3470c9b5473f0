import { blockdev, device, type Part } from './part.ts';

export type DiskFormat = 'raw' | 'qcow2';

export interface DiskDescription {
  /** Also the name of its block node. */
  readonly id: string;
  /** Id of the device that the guest sees. */
  readonly device: string;
  readonly format: DiskFormat;
  /** The image below the disk, which is its overlay. */
  readonly base?: { readonly id: string; readonly format: DiskFormat };
  readonly bootIndex?: number;
  /** The disk's serial number in the guest, at most 20 bytes. */
  readonly serial: string;
}

/** A disk of the VM's own. Files: `<id>` and, opened read-only, `<id>-read`; the base's under its id. */
export function disk({ id, device: name, format, base, bootIndex, serial }: DiskDescription): Part {
  const read = `${id}-read`;
  const file = { driver: 'file', aio: 'threads', discard: 'unmap' };
  return {
    id,
    files: [
      // Two descriptors in one set, so that QEMU may reopen the file either way.
      { role: id, as: { set: id } },
      { role: read, as: { set: id } },
      ...(base === undefined ? [] : [{ role: base.id, as: { set: base.id } }]),
    ],
    options: (at) => [
      ...(base === undefined
        ? []
        : [
            blockdev({
              ...file,
              'node-name': `${base.id}-file`,
              filename: at.path(base.id),
              'read-only': true,
            }),
            // The base's format is given and its own backing file disabled: neither is ever read from the image.
            blockdev({
              driver: base.format,
              'node-name': base.id,
              file: `${base.id}-file`,
              'read-only': true,
              ...(base.format === 'qcow2' ? { backing: null } : {}),
            }),
          ]),
      blockdev({ ...file, 'node-name': `${id}-file`, filename: at.path(id) }),
      blockdev({
        driver: format,
        'node-name': id,
        file: `${id}-file`,
        discard: 'unmap',
        'detect-zeroes': 'unmap',
        ...(format === 'qcow2' ? { backing: base?.id ?? null } : {}),
      }),
      device({
        driver: 'virtio-blk-pci',
        id: name,
        drive: id,
        ...(bootIndex === undefined ? {} : { bootindex: bootIndex }),
        serial,
      }),
    ],
  };
}

/** A raw disk that is only read. Cloud kernels have no AHCI or SCSI driver: it is a plain virtio disk. File: `<id>`. */
export function readOnlyDisk({ id, device: name, serial }: Omit<DiskDescription, 'format'>): Part {
  return {
    id,
    files: [{ role: id, as: { set: id } }],
    options: (at) => [
      blockdev({
        driver: 'file',
        'node-name': `${id}-file`,
        filename: at.path(id),
        'read-only': true,
      }),
      blockdev({ driver: 'raw', 'node-name': id, file: `${id}-file`, 'read-only': true }),
      device({ driver: 'virtio-blk-pci', id: name, drive: id, serial }),
    ],
  };
}
