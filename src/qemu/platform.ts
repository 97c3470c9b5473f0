import type { SmbiosTexts } from '#spec';
import type { MachinePlan } from './machine.ts';
import { device, object, option, optionText, type Part, type QemuOption } from './part.ts';

/** The machine that the VM's parts are added to. */
export interface Platform {
  readonly name: string;
  readonly uuid: string;
  /** Serial number of the machine in SMBIOS. */
  readonly serial: string;
  /** Other texts there; the driver's own where they are left out. */
  readonly smbios?: SmbiosTexts;
  /** UTC when left out. */
  readonly clock?: 'utc' | 'localtime';
  /** Instead of a restart QEMU ends. */
  readonly endsAtReset?: true;
  /** Firmware writes to the serial port what it would show on a screen. */
  readonly firmwareOnConsole?: boolean;
  readonly machine: MachinePlan;
  readonly vcpus: number;
  readonly memoryMiB: number;
}

const MiB = 1024 * 1024;

/**
 * What QEMU needs beside guest RAM: its own heap, device buffers, page tables, and a share that grows with the guest.
 */
const overheadMiB = 192;
const overheadShare = 0.02;

/** The process, the machine, its processors and its memory. */
export function platformOptions(
  {
    name,
    uuid,
    serial,
    smbios,
    clock = 'utc',
    endsAtReset,
    machine,
    vcpus,
    memoryMiB,
    firmwareOnConsole = false,
  }: Platform,
  { sharedMemory }: { readonly sharedMemory: boolean },
): readonly QemuOption[] {
  // The default interrupt controller of arm64 machines, the oldest one, supports eight CPUs only.
  const pc = firmwareOnConsole ? 'vmport=off,graphics=off' : 'vmport=off';
  const flags = machine.family === 'virt' ? 'gic-version=max' : pc;
  const memory = 'memory-backend=ram0,mem-merge=off,dump-guest-core=off';
  return [
    ...['S', 'nodefaults', 'no-user-config'].map((flag) => option(flag, '')),
    option('display', 'none'),
    option('name', `guest=${optionText(name)},debug-threads=on`),
    option('uuid', uuid),
    option('msg', 'timestamp=on'),
    // This excludes QEMU's own change of user; the user is set before exec.
    option('sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'),
    option('machine', `${optionText(machine.type)},${memory},${flags}`),
    option('accel', machine.accelerator === 'tcg' ? `tcg,tb-size=${machine.tbSizeMiB}` : 'kvm'),
    option('cpu', machine.cpu),
    option('smp', `cpus=${vcpus},sockets=1,cores=${vcpus},threads=1`),
    option('m', `${memoryMiB}M`),
    object({
      'qom-type': sharedMemory ? 'memory-backend-memfd' : 'memory-backend-ram',
      id: 'ram0',
      size: memoryMiB * MiB,
      ...(sharedMemory ? { share: true } : {}),
    }),
    option('rtc', `base=${clock},driftfix=slew`),
    option(
      'smbios',
      smbiosText({ manufacturer: 'HashiCorp', product: 'Nomad', serial, ...smbios }),
    ),
    ...(endsAtReset ? [option('action', 'reboot=shutdown')] : []),
  ];
}

function smbiosText(texts: SmbiosTexts): string {
  const fields = Object.entries(texts).map(([key, text]) => `${key}=${optionText(text)}`);
  return ['type=1', ...fields].join(',');
}

/** QEMU keeps the guest's statistics in the device of this id. */
export const balloonId = 'balloon0';

/** Devices that every guest has, whatever the job configures. */
export function standardDevices({ family }: MachinePlan): Part {
  const x86 = family === 'q35' || family === 'pc';
  return {
    id: 'standard',
    files: [],
    options: () => [
      object({ 'qom-type': 'rng-random', id: 'rng0', filename: '/dev/urandom' }),
      device({ driver: 'virtio-rng-pci', rng: 'rng0' }),
      device({
        driver: 'virtio-balloon-pci',
        id: balloonId,
        'deflate-on-oom': true,
        'free-page-reporting': true,
        // Seconds between the guest's statistics.
        'guest-stats-polling-interval': 2,
      }),
      device({ driver: 'virtio-serial-pci', id: 'serialbus0', max_ports: 31 }),
      ...(x86 ? [device({ driver: 'vmgenid', guid: 'auto' }), device({ driver: 'pvpanic' })] : []),
      ...(family === 'pc' ? [] : [device({ driver: 'pvpanic-pci' })]),
    ],
  };
}

/** Spare ports: a PCIe machine accepts a hot-plugged device only in a free port. */
export function sparePorts({ family }: MachinePlan): Part {
  const ports = family === 'pc' ? [] : [0, 1, 2, 3];
  return {
    id: 'spare',
    files: [],
    options: () =>
      ports.map((port) =>
        device({
          driver: 'pcie-root-port',
          id: `spare${port}`,
          chassis: port + 1,
          slot: port + 1,
        }),
      ),
  };
}

/** Maximum of bytes that QEMU may use: guest RAM and its own overhead. */
export function memoryLimit({ machine, memoryMiB }: Platform): number {
  const codeCache = machine.accelerator === 'tcg' ? machine.tbSizeMiB : 0;
  return Math.ceil(memoryMiB * (1 + overheadShare) + overheadMiB + codeCache) * MiB;
}
