import type { DisplaySpec } from '#spec';
import type { Emulator } from './emulator.ts';
import { QemuError } from './error.ts';
import type { MachineFamily } from './machine.ts';
import { device, option, type Part, type QemuOption } from './part.ts';

/**
 * What the guest may keep in QEMU's memory as the content of screens: two of 2560 × 1440, or one of 3840 × 2160. QEMU's
 * default is more than the memory limit of a VM leaves.
 */
const maxScreenBytes = 64 * 1024 * 1024;

/** `display-update`. */
const vncSince = 7_001_000;

/** What the emulator lacks for a display. */
export function displayProblems(
  display: DisplaySpec | undefined,
  { arch, version, versionNumber }: Pick<Emulator, 'arch' | 'version' | 'versionNumber'>,
): readonly QemuError[] {
  const problems: QemuError[] = [];
  if (display?.video === 'std' && arch === 'aarch64') {
    problems.push(
      new QemuError('unsupported', 'display.video: "std" is for x86_64; write "virtio" here'),
    );
  }
  if (display?.vnc !== undefined && versionNumber < vncSince) {
    const text = `display.vnc needs QEMU 7.1 or newer, this is ${version}`;
    problems.push(new QemuError('unavailable', text));
  }
  return problems;
}

/**
 * A screen with a mouse that points where the viewer's does, and a VNC server that listens nowhere yet: it is given its
 * sockets before the guest runs. A server with a password that was not set admits no viewer.
 */
export function display({ video, vnc }: DisplaySpec, family: MachineFamily): Part {
  return {
    id: 'display',
    files: [],
    options: () => [
      ...(video === 'none' ? [] : [...screen(video, family), ...inputs(family)]),
      ...(vnc === undefined ? [] : [option('vnc', vncOptions(vnc))]),
    ],
  };
}

function vncOptions({ password }: NonNullable<DisplaySpec['vnc']>): string {
  return password === undefined ? 'none' : 'none,password=on';
}

function screen(video: 'virtio' | 'std', family: MachineFamily): readonly QemuOption[] {
  if (video === 'std') return [device({ driver: 'VGA', id: 'video0' })];
  const driver = family === 'virt' ? 'virtio-gpu-pci' : 'virtio-vga';
  return [device({ driver, id: 'video0', max_hostmem: maxScreenBytes })];
}

/** A PC has a keyboard of its own. */
function inputs(family: MachineFamily): readonly QemuOption[] {
  return [
    device({ driver: 'qemu-xhci', id: 'usb' }),
    device({ driver: 'usb-tablet', bus: 'usb.0' }),
    ...(family === 'virt' ? [device({ driver: 'usb-kbd', bus: 'usb.0' })] : []),
  ];
}
