import type { Arch, DiskBus, DiskFormat, DiskPlace, DiskSpec } from '#spec';
import type { Job } from '../job.ts';
import type { DiskBlock } from './fields.ts';
import { poolKind, readPlace } from './place.ts';
import { serialProblem } from './serial.ts';
import { readSize } from './size.ts';
import { readSource } from './source.ts';
import { readThrottle } from './throttle.ts';
import { reportUnfit } from './unfit.ts';

/** What the place of a block among the others decides. */
interface Among {
  readonly name: string;
  readonly bus: DiskBus;
  readonly primary: boolean;
}

/** A `disk` block as a disk. Reports everything wrong with it. */
export function readBlock(block: DiskBlock, { name, bus, primary }: Among, job: Job): DiskSpec {
  const { raw, number, report } = block;
  const place = readPlace(block, job);
  const source = readSource(raw.source, report);
  const format = readFormat(block, place, job);
  const sizeBytes = readSize(block, { primary, place }, job);
  const sparse = readSparse(block, { place, format }, job);
  const throttle = readThrottle(raw.throttle, report);
  if (raw.chained && source === undefined) {
    report('chained', 'chained cannot be enabled without a source');
  }
  if (raw.kind === 'lun' && !raw.volume) {
    report('kind', 'a lun is a block device: name the volume_mount that has it with volume');
  }
  if (raw.aio === 'native' && !['none', 'directsync', undefined].includes(raw.cache)) {
    report('aio', '"native" needs cache "none" or "directsync"');
  }
  reportUnfit(block, place, job);
  checkSerial(block);
  return {
    block: number,
    name,
    kind: raw.kind,
    bus,
    place,
    ...(source && { source }),
    ...(format && { format }),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    chained: raw.chained,
    readOnly: raw.read_only || raw.kind === 'cdrom' || (place.kind === 'volume' && place.readOnly),
    sparse,
    ...(raw.sparse !== undefined && { statesSparse: true }),
    primary,
    ...(raw.serial && { serial: raw.serial }),
    ...(raw.cache && { cache: raw.cache }),
    ...(raw.aio && { aio: raw.aio }),
    discard: raw.discard ?? sparse,
    ...(throttle && { throttle }),
  };
}

/** The bus of the disk; none of the machines has a legacy IDE controller, but only q35 has AHCI of its own. */
export function readBus({ raw, report }: DiskBlock, arch: Arch): DiskBus {
  const cdromBus = arch === 'aarch64' ? 'scsi' : 'ide';
  const defaults = { disk: 'virtio', cdrom: cdromBus, lun: 'scsi' } as const;
  const bus = raw.bus_type ?? defaults[raw.kind];
  if (raw.kind === 'cdrom' && bus === 'virtio') {
    report('bus_type', 'a cdrom can not be on virtio: use scsi, sata, ide or usb');
  }
  if (raw.kind === 'lun' && bus !== 'scsi') report('bus_type', 'a lun can only be on scsi');
  return bus;
}

/** undefined where what becomes of the disk decides. */
function readFormat(
  { raw, report }: DiskBlock,
  place: DiskPlace,
  { pools }: Job,
): DiskFormat | undefined {
  const { format = '' } = raw;
  if (poolKind(place, pools) === 'ceph') {
    if (!['', 'raw'].includes(format)) report('format', 'format can only be raw for ceph volumes');
    return 'raw';
  }
  if (place.kind === 'nbd') {
    if (!['', 'raw'].includes(format)) report('format', 'format can only be raw for NBD exports');
    return 'raw';
  }
  if (format === 'raw' && raw.chained) {
    report('format', 'format must be qcow2 for chained directory volumes');
  }
  if (format === 'raw' || format === 'qcow2') return format;
  if (format !== '') {
    report('format', 'format only supports raw or qcow2 for directory volumes');
  }
  return undefined;
}

function readSparse(
  { raw, report }: DiskBlock,
  { place, format }: { readonly place: DiskPlace; readonly format: DiskFormat | undefined },
  { pools }: Job,
): boolean {
  const isCeph = poolKind(place, pools) === 'ceph';
  if (isCeph && raw.sparse === false) {
    report('sparse', 'sparse cannot be disabled for ceph volumes');
  }
  if (isCeph || place.kind === 'nbd') return true;
  return raw.sparse ?? format !== 'raw';
}

function checkSerial({ raw, report }: DiskBlock): void {
  const problem = raw.serial ? serialProblem(raw.serial) : undefined;
  if (problem !== undefined) report('serial', problem);
}
