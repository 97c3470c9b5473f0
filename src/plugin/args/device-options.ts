import { quoted } from '#spec';
import { readCard, readDriveDevice, readPort, readShareDevice } from './device-readers.ts';
import { cardModels } from './network-options.ts';
import { OptionText } from './option-text.ts';
import { type OptionKind, Refusal, type Wish } from './wish.ts';

/** One line of the table of `-device`. */
export interface DeviceKind {
  /** Names of QEMU's drivers. */
  readonly drivers: readonly string[];
  /** What becomes of it, for docs/migrating.md. */
  readonly becomes: string;
  /** undefined: the device is refused, and `becomes` is what to write instead. */
  readonly read?: (option: OptionText, driver: string) => readonly Wish[];
}

const nothing = (): readonly Wish[] => [];

/** What `-device` may have. */
export const deviceKinds: readonly DeviceKind[] = [
  {
    drivers: Object.keys(cardModels).filter((name) => name !== 'virtio'),
    becomes: 'A card of that model on the network that `netdev` names, with its `mac`.',
    read: readCard,
  },
  {
    drivers: ['virtio-blk-pci', 'virtio-blk', 'virtio-blk-device'],
    becomes: 'Puts the `drive` on virtio; `serial` and `bootindex` are kept.',
    read: (option) => readDriveDevice(option, { bus: 'virtio', cdrom: false }),
  },
  {
    drivers: ['ide-hd', 'ide-drive'],
    becomes: 'Puts the `drive` on IDE.',
    read: (option) => readDriveDevice(option, { bus: 'ide', cdrom: false }),
  },
  {
    drivers: ['scsi-hd', 'scsi-disk'],
    becomes: 'Puts the `drive` on SCSI.',
    read: (option) => readDriveDevice(option, { bus: 'scsi', cdrom: false }),
  },
  {
    drivers: ['usb-storage'],
    becomes: 'Puts the `drive` on USB.',
    read: (option) => readDriveDevice(option, { bus: 'usb', cdrom: false }),
  },
  {
    drivers: ['ide-cd'],
    becomes: 'Makes the `drive` a CD-ROM on IDE.',
    read: (option) => readDriveDevice(option, { bus: 'ide', cdrom: true }),
  },
  {
    drivers: ['scsi-cd'],
    becomes: 'Makes the `drive` a CD-ROM on SCSI.',
    read: (option) => readDriveDevice(option, { bus: 'scsi', cdrom: true }),
  },
  {
    drivers: ['virtio-9p-pci', 'virtio-9p', 'virtio-9p-device'],
    becomes: 'Shares the directory of the `fsdev` under `mount_tag`.',
    read: readShareDevice,
  },
  {
    drivers: ['virtserialport'],
    becomes:
      "The port of the guest agent (`name=org.qemu.guest_agent.0`), which every guest has; the socket is the driver's. No effect for that of SPICE (`com.redhat.spice.0`); other ports are refused.",
    read: readPort,
  },
  {
    drivers: [
      'virtio-rng-pci',
      'virtio-rng',
      'virtio-balloon-pci',
      'virtio-balloon',
      'virtio-serial-pci',
      'virtio-serial',
      'vmgenid',
      'vmcoreinfo',
      'pvpanic',
      'pvpanic-pci',
    ],
    becomes: 'No effect: every guest has it.',
    read: nothing,
  },
  {
    drivers: [
      'virtio-scsi-pci',
      'virtio-scsi',
      'ahci',
      'ich9-ahci',
      'piix3-ide',
      'piix3-usb-uhci',
      'piix4-usb-uhci',
      'ich9-usb-ehci1',
      'ich9-usb-uhci1',
      'ich9-usb-uhci2',
      'ich9-usb-uhci3',
      'usb-ehci',
      'nec-usb-xhci',
      'qemu-xhci',
      'pcie-root-port',
      'pcie-pci-bridge',
      'pci-bridge',
      'ioh3420',
      'dmi-to-pci-bridge',
      'i82801b11-bridge',
      'pxb',
      'pxb-pcie',
      'x3130-upstream',
      'xio3130-downstream',
      'usb-hub',
    ],
    becomes: 'No effect: the machine gets the controllers that its disks need.',
    read: nothing,
  },
  {
    drivers: [
      'usb-tablet',
      'usb-mouse',
      'usb-kbd',
      'virtio-tablet-pci',
      'virtio-keyboard-pci',
      'virtio-mouse-pci',
      'VGA',
      'virtio-vga',
      'virtio-gpu-pci',
      'qxl',
      'qxl-vga',
      'cirrus-vga',
      'vmware-svga',
      'bochs-display',
      'secondary-vga',
      'ramfb',
      'virtio-vga-gl',
      'virtio-gpu-gl-pci',
      'virtio-multitouch-pci',
      'usb-wacom-tablet',
      'vmmouse',
    ],
    becomes: 'No effect: `-vnc` gives the guest a screen with mouse and keyboard.',
    read: nothing,
  },
  {
    drivers: [
      'intel-hda',
      'ich9-intel-hda',
      'hda-duplex',
      'hda-micro',
      'hda-output',
      'AC97',
      'ES1370',
      'sb16',
      'cs4231a',
      'adlib',
      'gus',
      'pcspk',
      'usb-audio',
      'virtio-sound-pci',
    ],
    becomes: 'No effect: the guest has no sound.',
    read: nothing,
  },
  {
    drivers: ['isa-serial', 'pci-serial', 'virtconsole', 'isa-debugcon', 'sga'],
    becomes: 'No effect: the first serial port is the console, in the log of the task.',
    read: nothing,
  },
  {
    drivers: ['i6300esb'],
    becomes: '`watchdog`.',
    read: () => [{ kind: 'watchdog' }],
  },
  {
    drivers: [
      'vfio-pci',
      'usb-host',
      'pci-assign',
      'vhost-user-fs-pci',
      'vhost-vsock-pci',
      'loader',
      'ivshmem-plain',
    ],
    becomes:
      'devices of the host are not given to guests; a directory is a `volume_mount` or `-virtfs`.',
  },
  {
    drivers: [
      'nvme',
      'megasas',
      'megasas-gen2',
      'lsi',
      'lsi53c810',
      'lsi53c895a',
      'mptsas1068',
      'pvscsi',
      'am53c974',
      'sdhci-pci',
    ],
    becomes:
      'a disk is on virtio, ide, usb, or on scsi, whose controller is `virtio-scsi-pci`: name one of them.',
  },
  {
    drivers: ['tpm-tis', 'tpm-crb', 'tpm-tis-device'],
    becomes: 'guests have no TPM; leave it out.',
  },
  {
    drivers: ['intel-iommu', 'amd-iommu', 'virtio-iommu-pci'],
    becomes: 'guests have no IOMMU; leave it out.',
  },
  {
    drivers: ['pc-dimm', 'nvdimm', 'virtio-mem-pci', 'virtio-pmem-pci'],
    becomes: "use `resources`: memory is the task's; leave it out.",
  },
];

export const deviceOption: OptionKind = {
  names: ['device'],
  value: 'virtio-net-pci,netdev=net0',
  becomes: 'By its driver, in the table below; any other is refused.',
  read: (value) => {
    const option = new OptionText(value, 'driver');
    const driver = option.take('driver') ?? '';
    const kind = deviceKinds.find(({ drivers }) => drivers.includes(driver));
    const text = `the device ${quoted(driver)} is not supported: ${kind?.becomes.replace(/\.$/, '') ?? 'use a key of this driver; docs/migrating.md lists the devices that are read'}`;
    if (kind?.read === undefined) throw new Refusal(text);
    return kind.read(option, driver);
  },
};
