import { VmError } from './error.ts';
import type { Descriptor, FirmwarePlan, MachinePlan, NicPlan, SharePlan } from './plan.ts';

const MiB = 1024 * 1024;

/** The number a descriptor has inside QEMU: 0 to 2 are the journal's two ends and QEMU's own messages. */
export function descriptorNumber(all: readonly Descriptor[], wanted: Descriptor): number {
  const index = all.indexOf(wanted);
  if (index < 0) throw new Error(`the plan hands no descriptor ${wanted}`);
  return 3 + index;
}

/** Everything a QEMU command line is made of; a plan without the parts that only the host needs. */
export interface ArgvParts {
  readonly name: string;
  readonly uuid: string;
  readonly allocId: string;
  readonly machine: MachinePlan;
  readonly vcpus: number;
  readonly memoryMiB: number;
  readonly firmware: FirmwarePlan;
  readonly disk: { readonly format: 'raw' | 'qcow2'; readonly base: 'raw' | 'qcow2' | undefined };
  readonly nics: readonly NicPlan[];
  readonly shares: readonly SharePlan[];
  readonly descriptors: readonly Descriptor[];
}

/** QEMU's arguments, program path excluded. Every file and socket in them is a descriptor that QEMU inherits. */
export function qemuArguments(parts: ArgvParts): readonly string[] {
  return [
    ...['-S', '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-name', `guest=${optionText(parts.name)},debug-threads=on`],
    ...['-uuid', parts.uuid, '-msg', 'timestamp=on'],
    // QEMU's own switch of user does not go with this; the spawner has set the user before exec.
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...machine(parts),
    ...parts.descriptors.filter(isBlock).flatMap((it) => fdset(parts, it)),
    ...firmware(parts),
    ...monitors(parts),
    ...console(parts),
    ...disks(parts),
    ...parts.nics.flatMap((it, index) => nic(parts, it, index)),
    ...parts.shares.flatMap((it, index) => share(parts, it, index)),
    ...commonDevices(parts),
  ];
}

/** Text inside a comma-separated option: QEMU reads `,,` as one comma. */
export function optionText(text: string): string {
  if (text.includes('\0'))
    throw new VmError('spec', 'a name with a NUL byte cannot be given to QEMU');
  return text.replaceAll(',', ',,');
}

function isBlock(it: Descriptor): boolean {
  return /^(disk|base|seed|console|firmware)/.test(it);
}

function fdset(parts: ArgvParts, it: Descriptor): readonly string[] {
  const number = descriptorNumber(parts.descriptors, it);
  return ['-add-fd', `fd=${number},set=${setOf(it)},opaque=${it}`];
}

// The disk's two descriptors (read-write and read-only) make one set, so that QEMU may reopen it either way.
const sets: Readonly<Record<string, number>> = {
  console: 1,
  disk: 2,
  'disk-read': 2,
  base: 3,
  seed: 4,
  'firmware-code': 5,
  'firmware-vars': 6,
};

function setOf(it: Descriptor): number {
  const set = sets[it];
  if (set === undefined) throw new Error(`no descriptor set for ${it}`);
  return set;
}

function fdsetPath(it: Descriptor): string {
  return `/dev/fdset/${setOf(it)}`;
}

function json(option: string, value: Readonly<Record<string, unknown>>): readonly string[] {
  return [option, JSON.stringify(value)];
}

function machine({ machine, vcpus, memoryMiB, shares, allocId }: ArgvParts): readonly string[] {
  // vhost-user devices read guest memory from another process, so it must be a shared memfd then.
  const shared = shares.some((it) => it.type === 'virtiofs');
  // The oldest interrupt controller, which arm64 machines have unless told otherwise, knows eight CPUs.
  const flags = machine.family === 'virt' ? ',gic-version=max' : ',vmport=off';
  return [
    ...[
      '-machine',
      `${optionText(machine.type)},memory-backend=ram0,mem-merge=off,dump-guest-core=off${flags}`,
    ],
    ...['-accel', machine.accelerator === 'tcg' ? `tcg,tb-size=${machine.tbSizeMiB}` : 'kvm'],
    ...['-cpu', machine.cpu],
    ...['-smp', `cpus=${vcpus},sockets=1,cores=${vcpus},threads=1`],
    ...['-m', `${memoryMiB}M`],
    ...json('-object', {
      'qom-type': shared ? 'memory-backend-memfd' : 'memory-backend-ram',
      id: 'ram0',
      size: memoryMiB * MiB,
      ...(shared ? { share: true } : {}),
    }),
    ...['-rtc', 'base=utc,driftfix=slew'],
    ...['-smbios', `type=1,manufacturer=HashiCorp,product=Nomad,serial=${optionText(allocId)}`],
  ];
}

function firmware({ firmware }: ArgvParts): readonly string[] {
  if (firmware.kind === 'bios') return [];
  return [...pflash('firmware-code', 0, true), ...pflash('firmware-vars', 1, false)];
}

function pflash(
  it: 'firmware-code' | 'firmware-vars',
  unit: number,
  readOnly: boolean,
): readonly string[] {
  const file = { driver: 'file', filename: fdsetPath(it), 'node-name': `${it}-file` };
  return [
    ...json('-blockdev', { ...file, 'read-only': readOnly }),
    ...json('-blockdev', {
      driver: 'raw',
      'node-name': it,
      file: `${it}-file`,
      'read-only': readOnly,
    }),
    ...['-machine', `pflash${unit}=${it}`],
  ];
}

function monitors({ descriptors }: ArgvParts): readonly string[] {
  const qmp = descriptorNumber(descriptors, 'qmp');
  return [
    ...['-chardev', `socket,id=qmp,fd=${qmp},server=on,wait=off`],
    ...['-mon', 'chardev=qmp,mode=control'],
    // A second monitor on stdin and stdout: QEMU writes every event to a file with nobody connected.
    ...['-chardev', 'stdio,id=journal,signal=off'],
    ...['-mon', 'chardev=journal,mode=control'],
  ];
}

/** The serial port goes nowhere but into its log file: a bounded one, so the guest is never held up. */
function console({ machine }: ArgvParts): readonly string[] {
  const log = fdsetPath('console');
  return [
    ...['-chardev', `null,id=console,logfile=${log},logappend=on`],
    ...(machine.family === 'virt'
      ? ['-serial', 'chardev:console']
      : json('-device', { driver: 'isa-serial', chardev: 'console', id: 'serial0' })),
  ];
}

function disks(parts: ArgvParts): readonly string[] {
  const { disk } = parts;
  const file = { driver: 'file', aio: 'threads', discard: 'unmap' };
  return [
    ...(disk.base === undefined
      ? []
      : [
          ...json('-blockdev', {
            ...file,
            'node-name': 'base-file',
            filename: fdsetPath('base'),
            'read-only': true,
          }),
          // The base's format is stated and its own backing file ruled out: neither is ever read from the image.
          ...json('-blockdev', {
            driver: disk.base,
            'node-name': 'base',
            file: 'base-file',
            'read-only': true,
            ...(disk.base === 'qcow2' ? { backing: null } : {}),
          }),
        ]),
    ...json('-blockdev', { ...file, 'node-name': 'disk-file', filename: fdsetPath('disk') }),
    ...json('-blockdev', {
      driver: disk.format,
      'node-name': 'disk',
      file: 'disk-file',
      discard: 'unmap',
      'detect-zeroes': 'unmap',
      ...(disk.format === 'qcow2' ? { backing: disk.base === undefined ? null : 'base' } : {}),
    }),
    ...json('-device', {
      driver: 'virtio-blk-pci',
      id: 'disk0',
      drive: 'disk',
      bootindex: 0,
      serial: 'primary',
    }),
    ...json('-blockdev', {
      driver: 'file',
      'node-name': 'seed-file',
      filename: fdsetPath('seed'),
      'read-only': true,
    }),
    ...json('-blockdev', {
      driver: 'raw',
      'node-name': 'seed',
      file: 'seed-file',
      'read-only': true,
    }),
    // Cloud kernels have no AHCI or SCSI driver: the seed is a plain virtio disk.
    ...json('-device', { driver: 'virtio-blk-pci', id: 'seed0', drive: 'seed', serial: 'cidata' }),
  ];
}

function nic(parts: ArgvParts, { mac, mtu }: NicPlan, index: number): readonly string[] {
  const id = `net${index}`;
  return [
    // As text: this option takes JSON since QEMU 7.2 only.
    ...[
      '-netdev',
      `tap,id=${id},fd=${descriptorNumber(parts.descriptors, `tap${index}`)},vhost=off`,
    ],
    ...json('-device', {
      driver: 'virtio-net-pci',
      netdev: id,
      id: `nic${index}`,
      mac,
      // No option ROM: the VM boots from its disk, and the ROM costs start time.
      romfile: '',
      ...(mtu === undefined ? {} : { host_mtu: mtu }),
    }),
  ];
}

function share(
  parts: ArgvParts,
  { tag, type, path, readOnly }: SharePlan,
  index: number,
): readonly string[] {
  const id = `share${index}`;
  if (type === '9p') {
    const local = `local,id=${id},path=${optionText(path)},security_model=none,multidevs=remap`;
    return [
      ...['-fsdev', `${local}${readOnly ? ',readonly=on' : ''}`],
      ...json('-device', { driver: 'virtio-9p-pci', fsdev: id, mount_tag: tag }),
    ];
  }
  return [
    ...['-chardev', `socket,id=${id},fd=${descriptorNumber(parts.descriptors, `share${index}`)}`],
    ...json('-device', { driver: 'vhost-user-fs-pci', chardev: id, tag, 'queue-size': 1024 }),
  ];
}

function commonDevices({ machine: { family }, descriptors }: ArgvParts): readonly string[] {
  const x86 = family === 'q35' || family === 'pc';
  return [
    ...json('-object', { 'qom-type': 'rng-random', id: 'rng0', filename: '/dev/urandom' }),
    ...json('-device', { driver: 'virtio-rng-pci', rng: 'rng0' }),
    ...json('-device', {
      driver: 'virtio-balloon-pci',
      id: 'balloon0',
      'deflate-on-oom': true,
      'free-page-reporting': true,
      // Seconds between the guest's own figures.
      'guest-stats-polling-interval': 2,
    }),
    ...[
      '-chardev',
      `socket,id=agent,fd=${descriptorNumber(descriptors, 'agent')},server=on,wait=off`,
    ],
    ...json('-device', { driver: 'virtio-serial-pci', id: 'serialbus0', max_ports: 8 }),
    ...json('-device', {
      driver: 'virtserialport',
      chardev: 'agent',
      name: 'org.qemu.guest_agent.0',
    }),
    ...(x86 ? json('-device', { driver: 'vmgenid', guid: 'auto' }) : []),
    ...(x86 ? json('-device', { driver: 'pvpanic' }) : []),
    ...(family === 'pc' ? [] : json('-device', { driver: 'pvpanic-pci' })),
    // Spare ports: a PCIe machine can only be given a device later where a port waits for it.
    ...(family === 'pc'
      ? []
      : [0, 1, 2, 3].flatMap((port) =>
          json('-device', {
            driver: 'pcie-root-port',
            id: `spare${port}`,
            chassis: port + 1,
            slot: port + 1,
          }),
        )),
  ];
}
