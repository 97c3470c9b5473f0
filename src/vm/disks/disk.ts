import type { FirstSectors, ImageRoots, ImageStore } from '#image';
import type { DiskSlot } from '#qemu';
import type { DiskPlace, DiskSpec, StoragePools, Waiting } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';

/** What the check of a disk depends on beside the disk. */
export interface DiskHost {
  readonly files: ImageRoots;
  /** Maximum virtual size of an image, in bytes. */
  readonly maxImageBytes: number;
  readonly pools: StoragePools;
  readonly images: ImageStore;
}

export type VolumePlace = Extract<DiskPlace, { kind: 'volume' }>;

/** The ids of a disk inside QEMU, and its place on a bus. */
export interface DiskSeat {
  /** Its block node, and prefix of its other nodes; `disk` for the first. */
  readonly id: string;
  /** The device that the guest sees. */
  readonly device: string;
  /** The block node of its base. */
  readonly base: string;
  readonly slot: DiskSlot;
  readonly bootIndex: number | undefined;
}

/** A disk that can be created: what it is created from is open and was checked; nothing on the host is changed yet. */
export interface CheckedDisk extends Disposable {
  readonly spec: DiskSpec;
  /** Where a disk of unknown content is looked at before the VM boots from it; undefined: not possible, or not before it is prepared. */
  readonly image: FirstSectors | undefined;
  /** Identity of what is kept and other disks may name as well; undefined for a disk that is made for the VM. */
  readonly content?: string;
  prepare(seat: DiskSeat, site: Site, waiting: Waiting): Promise<Prepared>;
}
