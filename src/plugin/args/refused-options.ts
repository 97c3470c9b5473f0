import type { OptionKind } from './wish.ts';

const refused = (names: readonly string[], becomes: string, value?: string): OptionKind => ({
  names,
  becomes,
  ...(value === undefined ? {} : { value }),
});

/** What QEMU knows and no job may have, with what to write instead. */
export const refusedOptions: readonly OptionKind[] = [
  refused(['spice'], 'there is no SPICE; use `-vnc`.', 'port=5900'),
  refused(['sdl', 'curses'], 'use `-nographic`: there is no screen.'),
  refused(
    ['qmp', 'qmp-pretty', 'mon'],
    "use `nomad alloc signal`, `nomad alloc stop`, `nomad alloc exec`: the monitor is the driver's.",
    'unix:qmp.sock',
  ),
  refused(['dtb', 'shim'], 'there is no key for it; leave it out.', '…'),
  refused(
    [
      'set',
      'readconfig',
      'writeconfig',
      'L',
      'plugin',
      'trace',
      'd',
      'D',
      'incoming',
      'loadvm',
      'gdb',
      'icount',
      'semihosting-config',
    ],
    'there is no key for it; leave it out.',
    '…',
  ),
  refused(
    ['S', 's', 'semihosting', 'no-shutdown', 'preconfig', 'singlestep'],
    'the guest would not run as a task does; leave it out.',
  ),
  refused(['h', 'help', 'version', 'audio-help'], 'it starts no guest; leave it out.'),
  refused(['iscsi'], 'a disk is an image, a Nomad volume or of a pool; use `disk`.', '…'),
  refused(['dfilter', 'dump-vmstate', 'xen-domid'], 'there is no key for it; leave it out.', '…'),
  refused(['xen-attach', 'xen-domid-restrict'], 'guests run under KVM or TCG; leave it out.'),
  refused(['daemonize'], 'Nomad keeps the VM; leave it out.'),
  refused(
    ['pidfile', 'runas', 'chroot'],
    'the VM has a user and a directory of its own; leave it out.',
    '…',
  ),
  refused(
    ['tpmdev', 'acpitable', 'option-rom', 'add-fd'],
    'there is no key for it; leave it out.',
    '…',
  ),
  refused(['no-acpi'], 'a stop uses ACPI; leave it out.'),
];
