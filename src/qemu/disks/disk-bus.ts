import type { DiskBus, DiskKind } from '#spec';
import type { MachineFamily } from '../machine.ts';
import { device, type Json, type Part } from '../part.ts';

/** Where a disk is plugged in: the device's driver, and its place on a bus unless QEMU chooses that. */
export type DiskSlot = Json & { readonly driver: string };

export interface DiskToPlug {
  readonly bus: DiskBus;
  readonly kind: DiskKind;
  readonly readOnly: boolean;
}

export interface DiskSlots {
  /** Controllers that the machine lacks, each with the number of the first disk that needs it. */
  readonly controllers: readonly {
    readonly before: number;
    readonly part: Part;
    readonly model: string;
  }[];
  /** One for each disk; undefined where there is a problem. */
  readonly slots: readonly (DiskSlot | undefined)[];
  readonly problems: readonly {
    readonly index: number;
    readonly key: string;
    readonly text: string;
  }[];
}

/** Virtio disks that have a slot of the root bus; the others share a bridge, so that other devices find one as well. */
const rootSlots = 8;
/** Slots of a bridge; the first is its own. */
const bridgeSlots = 31;
const ahciPorts = 6;
const usbPorts = 15;
const scsiTargets = 255;

/**
 * A place for each disk of a machine. Controllers are added as needed: a q35 machine has AHCI, which `ide` means there
 * as well, and a pc machine has IDE.
 */
export function plugDisks(disks: readonly DiskToPlug[], family: MachineFamily): DiskSlots {
  const board = new Board(family);
  const problems: { index: number; key: string; text: string }[] = [];
  const slots = disks.map((disk, index) => {
    const problem = problemOf(disk, family);
    if (problem !== undefined) {
      problems.push({ index, ...problem });
      return undefined;
    }
    const slot = board.plug(disk, index);
    if (slot !== undefined) return slot;
    const text = `the machine has no more places for ${disk.bus} disks`;
    problems.push({ index, key: 'bus_type', text });
    return undefined;
  });
  return { controllers: board.controllers, slots, problems };
}

function problemOf(
  { bus, kind, readOnly }: DiskToPlug,
  family: MachineFamily,
): { readonly key: string; readonly text: string } | undefined {
  if (bus === 'ide' && family === 'virt') {
    return { key: 'bus_type', text: 'this machine has no IDE; use virtio, scsi or sata' };
  }
  if (kind === 'cdrom' && bus === 'virtio') {
    return { key: 'bus_type', text: 'a cdrom needs one of scsi, sata, ide, usb' };
  }
  if (kind === 'lun' && bus !== 'scsi') {
    return { key: 'bus_type', text: 'SCSI commands are passed through on scsi only' };
  }
  if (kind === 'disk' && readOnly && (bus === 'ide' || bus === 'sata')) {
    return {
      key: 'read_only',
      text: `a disk on ${bus} can't be read-only; use virtio, scsi or usb, or the kind cdrom`,
    };
  }
  return undefined;
}

/** The places that are taken so far. */
class Board {
  readonly controllers: { before: number; part: Part; model: string }[] = [];
  readonly #family: MachineFamily;
  readonly #used = new Map<string, number>();

  constructor(family: MachineFamily) {
    this.#family = family;
  }

  plug({ bus, kind }: DiskToPlug, index: number): DiskSlot | undefined {
    switch (bus) {
      case 'virtio':
        return this.#virtio(index);
      case 'scsi':
        return this.#scsi(kind, index);
      case 'usb':
        return this.#usb(kind, index);
      case 'sata':
        return this.#sata(kind, index);
      case 'ide':
        return this.#family === 'pc' ? this.#ide(kind) : this.#sata(kind, index);
      default:
        return bus satisfies never;
    }
  }

  #virtio(index: number): DiskSlot | undefined {
    const driver = 'virtio-blk-pci';
    const number = this.#next('virtio');
    if (number < rootSlots) return { driver };
    if (number >= rootSlots + bridgeSlots) return undefined;
    const pci = { driver: 'pci-bridge', chassis_nr: 1 };
    this.#need('disks0', this.#family === 'pc' ? pci : { driver: 'pcie-pci-bridge' }, index);
    return { driver, bus: 'disks0' };
  }

  #scsi(kind: DiskKind, index: number): DiskSlot | undefined {
    const target = this.#next('scsi');
    if (target >= scsiTargets) return undefined;
    this.#need('scsi0', { driver: 'virtio-scsi-pci' }, index);
    const drivers = { disk: 'scsi-hd', cdrom: 'scsi-cd', lun: 'scsi-block' };
    return { driver: drivers[kind], bus: 'scsi0.0', 'scsi-id': target };
  }

  #usb(kind: DiskKind, index: number): DiskSlot | undefined {
    const number = this.#next('usb');
    if (number >= usbPorts) return undefined;
    this.#need('usb0', { driver: 'qemu-xhci', p2: usbPorts, p3: usbPorts }, index);
    if (kind !== 'cdrom') return { driver: 'usb-storage', bus: 'usb0.0' };
    this.#need(`usb-cd${number}`, { driver: 'usb-bot', bus: 'usb0.0' }, index);
    return { driver: 'scsi-cd', bus: `usb-cd${number}.0` };
  }

  #sata(kind: DiskKind, index: number): DiskSlot | undefined {
    const number = this.#next('sata');
    const controller = Math.floor(number / ahciPorts);
    const builtIn = this.#family === 'q35' && controller === 0;
    const name = builtIn ? 'ide' : `sata${controller}`;
    if (!builtIn) this.#need(name, { driver: 'ich9-ahci' }, index);
    return { driver: ideDriver(kind), bus: `${name}.${number % ahciPorts}` };
  }

  #ide(kind: DiskKind): DiskSlot | undefined {
    const number = this.#next('ide');
    if (number >= 4) return undefined;
    return { driver: ideDriver(kind), bus: `ide.${Math.floor(number / 2)}`, unit: number % 2 };
  }

  #next(counter: string): number {
    const number = this.#used.get(counter) ?? 0;
    this.#used.set(counter, number + 1);
    return number;
  }

  #need(id: string, json: Json & { readonly driver: string }, before: number): void {
    if (this.controllers.some(({ part }) => part.id === id)) return;
    const { driver, ...properties } = json;
    const part: Part = {
      id,
      files: [],
      options: () => [device({ driver, id, ...properties })],
    };
    this.controllers.push({ before, part, model: driver });
  }
}

function ideDriver(kind: DiskKind): string {
  return kind === 'cdrom' ? 'ide-cd' : 'ide-hd';
}
