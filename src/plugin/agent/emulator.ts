import type { Report } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';

export const emulatorFields = {
  emulator: {
    kind: 'block',
    doc: 'Accepted so that configurations written for a libvirt driver keep working. There is no libvirt here: QEMU is started on this host by the driver itself.',
    fields: {
      uri: {
        kind: 'attr',
        type: 'string',
        default: 'qemu:///system',
        doc: 'Only names of the local QEMU are accepted: `qemu:///system`, `qemu:///session`, `qemu:///default` or an empty string. None of them changes anything.',
        example: '"qemu:///system"',
      },
      user: {
        kind: 'attr',
        type: 'string',
        doc: 'Accepted and not used.',
        example: '"nomad"',
      },
      password: {
        kind: 'attr',
        type: 'string',
        doc: 'Accepted and not used.',
        example: '"secret"',
      },
    },
  },
} as const satisfies Fields;

const localUris = ['', 'qemu:///system', 'qemu:///session', 'qemu:///default'];

/** Refuses a libvirt on another host; nothing of the block has an effect otherwise. */
export function checkEmulator({ emulator }: Decoded<typeof emulatorFields>, report: Report): void {
  const uri = emulator?.uri ?? '';
  if (localUris.includes(uri)) return;
  report(
    'emulator.uri',
    `${JSON.stringify(uri)} is not the QEMU of this host: this driver starts QEMU itself and connects to no libvirt; leave it out or write "qemu:///system"`,
  );
}
