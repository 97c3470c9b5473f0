import type {
  DiskAio,
  DiskBus,
  DiskCache,
  DiskFormat,
  DisplaySpec,
  ForeignFormat,
  NicModel,
  VmSpec,
  WatchdogAction,
} from '#spec';

/** What one option asks for. Options that belong together, by an id, are joined later. */
export type Wish =
  | { readonly kind: 'vcpus'; readonly count: number }
  | { readonly kind: 'memory'; readonly memoryMiB: number }
  | { readonly kind: 'machine'; readonly machine: string }
  | AcceleratorWish
  | { readonly kind: 'uefi' }
  /** Of a flash memory beside the firmware's. */
  | { readonly kind: 'uefi-variables'; readonly file: string }
  | { readonly kind: 'clock'; readonly base: 'utc' | 'localtime' }
  | { readonly kind: 'smbios'; readonly fields: Readonly<Record<string, string>> }
  | { readonly kind: 'watchdog'; readonly action?: WatchdogAction }
  | { readonly kind: 'video'; readonly video: DisplaySpec['video'] }
  /** `port` of a loopback address, whatever the job has; undefined: no port, the driver's own socket. */
  | { readonly kind: 'vnc'; readonly port: number | undefined; readonly wasOpen?: boolean }
  | { readonly kind: 'cdrom-first' }
  /** A guest that restarts ends its task. */
  | { readonly kind: 'no-reboot' }
  | { readonly kind: 'snapshot' }
  /** A configuration of Ignition: a path, or the text itself. */
  | { readonly kind: 'ignition'; readonly userData: string }
  | { readonly kind: 'kernel'; readonly file: string }
  | { readonly kind: 'initrd'; readonly file: string }
  | { readonly kind: 'append'; readonly text: string }
  | { readonly kind: 'no-defaults' }
  | DriveWish
  | DriveDeviceWish
  | NetdevWish
  | CardWish
  | { readonly kind: 'no-network' }
  | ShareWish
  | { readonly kind: 'share-device'; readonly fsdev: string; readonly tag: string }
  | { readonly kind: 'chardev'; readonly id: string; readonly opens: string | undefined }
  | { readonly kind: 'agent-port'; readonly chardev: string | undefined };

export interface AcceleratorWish {
  readonly kind: 'accelerator';
  readonly accelerator: VmSpec['accelerator'];
  /** Another one behind it is for where this one does not work. */
  readonly isAlternative?: boolean;
}

export interface DriveWish {
  readonly kind: 'drive';
  readonly id: string | undefined;
  readonly file: string;
  /** The file is a directory, whose files the disk has. */
  readonly directory?: { readonly label: string };
  /** undefined: the machine's usual bus. `none`: a device names the drive. */
  readonly bus: DiskBus | 'none' | undefined;
  readonly cdrom: boolean;
  readonly readOnly: boolean;
  readonly format?: DiskFormat | ForeignFormat;
  readonly serial?: string;
  readonly cache?: DiskCache;
  readonly aio?: DiskAio;
  readonly snapshot?: boolean;
}

/** `-device virtio-blk-pci,drive=…`. */
export interface DriveDeviceWish {
  readonly kind: 'drive-device';
  readonly drive: string;
  readonly bus: DiskBus;
  readonly cdrom: boolean;
  readonly serial?: string;
  readonly bootIndex?: number;
}

export interface HostForward {
  /** '' for every address of the host. */
  readonly hostIp: string;
  readonly hostPort: number;
  readonly guestPort: number;
  readonly protocol: 'tcp' | 'udp';
}

/** `-netdev`; `-nic` is one with a card of its own. */
export interface NetdevWish {
  readonly kind: 'netdev';
  readonly id: string | undefined;
  /** The host's bridge that it is on; undefined: QEMU's user-mode network. */
  readonly bridge?: string;
  readonly forwards: readonly HostForward[];
}

export interface CardWish {
  readonly kind: 'card';
  /** undefined: it is connected to the one network without an id. */
  readonly netdev: string | undefined;
  /** undefined: the machine's usual card. */
  readonly model: NicModel | undefined;
  readonly mac?: string;
}

export interface ShareWish {
  readonly kind: 'share';
  readonly id: string | undefined;
  readonly path: string;
  /** Of `-virtfs`; else a device has it. */
  readonly tag: string | undefined;
}

/** Reads the value of an option. Throws Refusal for what can't be done. */
export type ReadOption = (value: string) => readonly Wish[];

/** An option, or a value of it, that is not taken. The message names what to write instead. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
}

/** One line of the table of options. */
export interface OptionKind {
  /** Without the dash; the first is the usual name. */
  readonly names: readonly string[];
  /** What the value looks like; undefined: the option has none. */
  readonly value?: string;
  /** What becomes of it, for docs/migrating.md. */
  readonly becomes: string;
  /** undefined: the option is refused, and `becomes` is what to write instead. */
  readonly read?: ReadOption;
}
