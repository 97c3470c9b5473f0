import type { DiskFormat, DiskThrottle } from '#spec';
import {
  blockdev,
  device,
  type Json,
  object,
  type Part,
  type Places,
  type QemuOption,
} from '../part.ts';
import type { DiskSlot } from './disk-bus.ts';
import {
  cacheModes,
  type DiskIo,
  type DiskProtocol,
  defaultDiskIo,
  isLocal,
  nodeAccess,
  protocolNeeds,
  protocolOptions,
} from './disk-protocol.ts';

export interface DiskDescription {
  /** Also the name of its block node. */
  readonly id: string;
  /** Id of the device that the guest sees. */
  readonly device: string;
  readonly slot: DiskSlot;
  /** What has the bytes; a file when left out. */
  readonly protocol?: DiskProtocol;
  /** Whether QEMU refuses a disk that another process has open for writing, on this host or by a shared file system. */
  readonly locked?: boolean;
  readonly format: DiskFormat;
  /** The image below the disk, which is its overlay. */
  readonly base?: { readonly id: string; readonly format: DiskFormat };
  readonly readOnly?: boolean;
  readonly io?: DiskIo;
  readonly throttle?: DiskThrottle;
  readonly bootIndex?: number;
  /** The disk's serial number in the guest, at most 20 bytes. */
  readonly serial: string;
}

type NodeDescription = Pick<DiskDescription, 'id' | 'format' | 'base' | 'readOnly' | 'io'>;

/**
 * A disk of the VM's own. Files: `<id>-read`, opened read-only, and `<id>` unless the disk is only read; the base's
 * under its id.
 */
export function disk(description: DiskDescription): Part {
  const { id, base, readOnly = false, protocol = { driver: 'file' } } = description;
  const local = isLocal(protocol);
  return {
    id,
    files: [
      // Two descriptors in one set, so that QEMU may reopen the file either way.
      ...(readOnly || !local ? [] : [{ role: id, as: { set: id } }]),
      ...(local ? [{ role: `${id}-read`, as: { set: id } }] : []),
      ...(protocol.driver === 'rbd' ? [{ role: `${id}-key`, as: 'fd' } as const] : []),
      ...(base === undefined ? [] : [{ role: base.id, as: { set: base.id } }]),
    ],
    ...protocolNeeds(protocol),
    options: (at) => [
      ...(base === undefined ? [] : baseNodes(base, at.path(base.id))),
      ...nodes(description, at),
      ...throttled(description),
      diskDevice(description),
    ],
  };
}

/** The device that the guest sees, on the topmost of the disk's nodes. */
function diskDevice({
  id,
  device: name,
  slot,
  io = defaultDiskIo,
  protocol,
  throttle,
  bootIndex,
  serial,
}: DiskDescription): QemuOption {
  const { driver, ...place } = slot;
  return device({
    driver,
    id: name,
    drive: throttle === undefined ? id : throttleNode(id),
    ...place,
    ...(bootIndex === undefined ? {} : { bootindex: bootIndex }),
    ...(io.writeCache ? {} : { 'write-cache': 'off' }),
    // The guest waits for a server that is away; by default it waits for a full disk only.
    ...(!isLocal(protocol) ? { werror: 'stop', rerror: 'stop' } : {}),
    // What passes SCSI commands through has the serial number of the device behind it.
    ...(driver === 'scsi-block' ? {} : { serial }),
  });
}

const file = { driver: 'file', aio: 'threads', discard: 'unmap' };

/** The base's format is given and its own backing file disabled: neither is ever read from the image. */
function baseNodes(
  { id, format }: NonNullable<DiskDescription['base']>,
  path: string,
): readonly QemuOption[] {
  return [
    blockdev({ ...file, 'node-name': `${id}-file`, filename: path, 'read-only': true }),
    blockdev({
      driver: format,
      'node-name': id,
      file: `${id}-file`,
      'read-only': true,
      ...(format === 'qcow2' ? { backing: null } : {}),
    }),
  ];
}

function nodes(description: DiskDescription, at: Places): readonly QemuOption[] {
  return [...protocolOptions(description, at), blockdev(formatNode(description))];
}

function formatNode(description: NodeDescription): Json {
  const { id, format, base } = description;
  const { discard, ...common } = nodeAccess(description);
  return {
    driver: format,
    'node-name': id,
    file: `${id}-file`,
    discard,
    'detect-zeroes': discard === 'unmap' ? 'unmap' : 'off',
    ...common,
    ...(format === 'qcow2' ? { backing: base?.id ?? null } : {}),
  };
}

/** The node of a raw, writable disk with the options that it has: what `blockdev-reopen` takes. */
export function rawNode({
  id,
  discard,
  cache = 'writeback',
}: {
  readonly id: string;
  readonly discard: boolean;
  /** As recorded. */
  readonly cache: string | undefined;
}): Json {
  const [, mode] = Object.entries(cacheModes).find(([name]) => name === cache) ?? [];
  return formatNode({ id, format: 'raw', io: { ...defaultDiskIo, ...mode, discard } });
}

/** The node above the disk's own where its I/O is limited: the guest's device is on it. */
export function throttleNode(id: string): string {
  return `${id}-throttle`;
}

function throttled({ id, throttle }: DiskDescription): readonly QemuOption[] {
  if (throttle === undefined) return [];
  const group = `${id}-limits`;
  return [
    object({ 'qom-type': 'throttle-group', id: group, limits: limitsOf(throttle) }),
    blockdev({
      driver: 'throttle',
      'node-name': throttleNode(id),
      'throttle-group': group,
      file: id,
    }),
  ];
}

/** QEMU's names for the limits; `<name>-max` is how much may be used at once after a time of rest. */
function limitsOf(throttle: DiskThrottle): Json {
  const { burstSeconds = 1 } = throttle;
  const limits = {
    'iops-total': throttle.iops,
    'iops-read': throttle.iopsRead,
    'iops-write': throttle.iopsWrite,
    'bps-total': throttle.bytes,
    'bps-read': throttle.bytesRead,
    'bps-write': throttle.bytesWrite,
  };
  return Object.fromEntries(
    Object.entries(limits).flatMap(([name, limit]) => {
      if (limit === undefined) return [];
      const burst = burstSeconds > 1 ? [[`${name}-max`, limit * burstSeconds]] : [];
      return [[name, limit], ...burst];
    }),
  );
}

/** A raw disk that is only read. Cloud kernels have no AHCI or SCSI driver: it is a plain virtio disk. File: `<id>`. */
export function readOnlyDisk({
  id,
  device: name,
  serial,
}: Pick<DiskDescription, 'id' | 'device' | 'serial'>): Part {
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
