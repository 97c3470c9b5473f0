import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plugDisks } from '#qemu';
import type { DiskBus, DiskKind } from '#spec';
import type { DiskToPlug } from '../../src/qemu/disks/disk-bus.ts';
import type { MachineFamily } from '../../src/qemu/machine.ts';

function disk(bus: DiskBus, kind: DiskKind = 'disk', readOnly = kind === 'cdrom'): DiskToPlug {
  return { bus, kind, readOnly };
}

function many(count: number, bus: DiskBus): readonly DiskToPlug[] {
  return Array.from({ length: count }, () => disk(bus));
}

interface Case {
  readonly family: MachineFamily;
  readonly disks: readonly DiskToPlug[];
  /** Driver and bus of each slot. */
  readonly slots: readonly string[];
  readonly controllers?: readonly string[];
}

const places: Readonly<Record<string, Case>> = {
  'virtio disks are on the root bus': {
    family: 'q35',
    disks: many(2, 'virtio'),
    slots: ['virtio-blk-pci', 'virtio-blk-pci'],
  },
  'scsi brings its controller before the first of its disks': {
    family: 'q35',
    disks: [disk('virtio'), disk('scsi'), disk('scsi', 'cdrom'), disk('scsi', 'lun')],
    slots: ['virtio-blk-pci', 'scsi-hd scsi0.0', 'scsi-cd scsi0.0', 'scsi-block scsi0.0'],
    controllers: ['1 scsi0 virtio-scsi-pci'],
  },
  'ide and sata are the AHCI that a q35 machine has': {
    family: 'q35',
    disks: [disk('ide', 'cdrom'), disk('sata')],
    slots: ['ide-cd ide.0', 'ide-hd ide.1'],
  },
  'a seventh disk needs a second AHCI': {
    family: 'q35',
    disks: many(7, 'sata'),
    slots: [...Array.from({ length: 6 }, (_, port) => `ide-hd ide.${port}`), 'ide-hd sata1.0'],
    controllers: ['6 sata1 ich9-ahci'],
  },
  'a pc machine has IDE, and no AHCI of its own': {
    family: 'pc',
    disks: [disk('ide'), disk('ide', 'cdrom'), disk('ide'), disk('sata')],
    slots: ['ide-hd ide.0', 'ide-cd ide.0', 'ide-hd ide.1', 'ide-hd sata0.0'],
    controllers: ['3 sata0 ich9-ahci'],
  },
  'an arm64 machine gets AHCI': {
    family: 'virt',
    disks: [disk('sata')],
    slots: ['ide-hd sata0.0'],
    controllers: ['0 sata0 ich9-ahci'],
  },
  'usb: a cdrom has an adapter of its own': {
    family: 'q35',
    disks: [disk('usb'), disk('usb', 'cdrom')],
    slots: ['usb-storage usb0.0', 'scsi-cd usb-cd1.0'],
    controllers: ['0 usb0 qemu-xhci', '1 usb-cd1 usb-bot'],
  },
  'the ninth virtio disk is behind a bridge, so that other devices find a slot': {
    family: 'pc',
    disks: many(10, 'virtio'),
    slots: [
      ...Array.from({ length: 8 }, () => 'virtio-blk-pci'),
      'virtio-blk-pci disks0',
      'virtio-blk-pci disks0',
    ],
    controllers: ['8 disks0 pci-bridge'],
  },
};

for (const [title, { family, disks, slots, controllers = [] }] of Object.entries(places)) {
  test(`V-42: ${title}`, () => {
    const found = plugDisks(disks, family);
    assert.deepEqual(found.problems, []);
    assert.deepEqual(
      found.slots.map((slot) => [slot?.driver, slot?.bus].filter(Boolean).join(' ')),
      slots,
    );
    assert.deepEqual(
      found.controllers.map(({ before, part, model }) => `${before} ${part.id} ${model}`),
      controllers,
    );
  });
}

const refused: Readonly<Record<string, readonly [MachineFamily, readonly DiskToPlug[], string]>> = {
  'IDE on arm64': ['virt', [disk('ide')], '0 bus_type this machine has no IDE'],
  'a cdrom on virtio': ['q35', [disk('virtio', 'cdrom')], '0 bus_type a cdrom needs one of'],
  'a lun that is not on scsi': ['q35', [disk('virtio', 'lun')], '0 bus_type SCSI commands'],
  'a read-only disk on AHCI': [
    'q35',
    [disk('sata', 'disk', true)],
    "0 read_only a disk on sata can't",
  ],
  'a fifth IDE disk': ['pc', many(5, 'ide'), '4 bus_type the machine has no more places for ide'],
  'a sixteenth USB disk': ['q35', many(16, 'usb'), '15 bus_type the machine has no more places'],
  'a fortieth virtio disk': ['q35', many(40, 'virtio'), '39 bus_type the machine has no more'],
};

test('V-142: a lun is a SCSI disk that passes commands through to its device', () => {
  const { slots } = plugDisks([disk('scsi', 'lun')], 'q35');
  assert.deepEqual(
    slots.map((slot) => slot?.driver),
    ['scsi-block'],
  );
});

for (const [title, [family, disks, expected]] of Object.entries(refused)) {
  test(`V-42: ${title} is a problem of the key`, () => {
    const { problems } = plugDisks(disks, family);
    const texts = problems.map(({ index, key, text }) => `${index} ${key} ${text}`);
    assert.equal(texts.length, 1, texts.join('\n'));
    assert.ok(texts[0]?.startsWith(expected), texts[0]);
  });
}
