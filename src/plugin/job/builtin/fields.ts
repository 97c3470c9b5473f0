import type { Fields } from '../../hcl/schema.ts';
import { machineFields } from '../machine.ts';

/** `config` of a job for Nomad's builtin `qemu` driver. Beside these such a job may have every key of this driver. */
export const builtinFields = {
  image_path: {
    kind: 'attr',
    type: 'string',
    doc: 'The disk that the guest boots from, by the rules of `image`. The guest writes to an overlay of it. Required without `image` or `disk`.',
    example: '"local/linux.img"',
  },
  drive_interface: {
    kind: 'attr',
    type: 'string',
    oneOf: ['ide', 'scsi', 'virtio', 'none', 'sd', 'mtd', 'floppy', 'pflash'],
    doc: 'The bus of that disk: `ide`, `scsi` or `virtio`. Default: `ide`, on aarch64 `virtio`.',
    example: '"virtio"',
  },
  emulator: {
    kind: 'attr',
    type: 'string',
    default: 'x86_64',
    doc: 'Architecture of the guest: `x86_64` or `aarch64`, with or without `qemu-system-`.',
    example: '"x86_64"',
  },
  machine_type: {
    kind: 'attr',
    type: 'string',
    doc: 'QEMU machine type. Default: `pc`, on aarch64 `virt`.',
    example: '"q35"',
  },
  accelerator: {
    kind: 'attr',
    type: 'string',
    oneOf: [...machineFields.accelerator.oneOf, 'kvm:tcg'],
    doc: '`kvm`, `tcg`, or `auto`, which is KVM where it works, as is `kvm:tcg`. Default: `tcg`.',
    example: '"kvm"',
  },
  graceful_shutdown: {
    kind: 'attr',
    type: 'bool',
    doc: 'Has no effect: every stop asks the guest first, for the time of `kill_timeout`.',
    example: 'true',
  },
  guest_agent: {
    kind: 'attr',
    type: 'bool',
    doc: 'Has no effect: every guest has the port of the guest agent.',
    example: 'true',
  },
  port_map: {
    kind: 'attr',
    type: 'list(map(number))',
    min: 1,
    max: 65_535,
    doc: "Ports of the guest by the label of the group's port: each is forwarded to the guest, TCP and UDP.",
    example: '{ http = 80 }',
  },
  args: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'Options of QEMU. They are read, not passed on: docs/migrating.md lists what each one becomes, and which are refused.',
    example: '["-smp", "2"]',
  },
} as const satisfies Fields;
