import { quoted } from '#spec';
import type { Report } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';

const uri = {
  kind: 'attr',
  type: 'string',
  default: 'qemu:///system',
  doc: 'Only names of the local QEMU are accepted: `qemu:///system`, `qemu:///session`, `qemu:///default` or an empty string. None of them changes anything.',
  example: '"qemu:///system"',
} as const;

const user = {
  kind: 'attr',
  type: 'string',
  doc: 'Accepted and not used.',
  example: '"nomad"',
} as const;

const password = {
  kind: 'attr',
  type: 'string',
  secret: true,
  doc: 'Accepted and not used.',
  example: '"secret"',
} as const;

export const emulatorFields = {
  emulator: {
    kind: 'block',
    doc: 'Accepted so that configurations written for a libvirt driver keep working. There is no libvirt here: QEMU is started on this host by the driver itself.',
    fields: { uri, user, password },
  },
  provider: {
    kind: 'block-map',
    doc: 'Accepted for the same reason; the only name is `libvirt`.',
    example: 'libvirt',
    fields: {
      uri,
      user,
      password,
      allow_insecure_readonly_mounts: {
        kind: 'attr',
        type: 'bool',
        default: false,
        doc: 'Accepted and not used: this host enforces that read-only directories are not written to.',
        example: 'false',
      },
    },
  },
} as const satisfies Fields;

type Raw = Decoded<typeof emulatorFields>;

const localUris = ['', 'qemu:///system', 'qemu:///session', 'qemu:///default'];

/** Refuses a libvirt on another host and other providers; nothing of the blocks has an effect otherwise. */
export function checkEmulator({ emulator, provider }: Raw, report: Report): void {
  checkUri('emulator.uri', emulator?.uri, report);
  for (const [name, { uri }] of provider) {
    if (name === 'libvirt') checkUri('provider.libvirt.uri', uri, report);
    else report(`provider.${name}`, 'is not known; the only provider accepted is "libvirt"');
  }
}

/** One sentence for the log when a block is written that has no effect; undefined when there is none. */
export function emulatorWarning({ emulator, provider }: Raw): string | undefined {
  const written = [...(emulator ? ['emulator'] : []), ...(provider.size > 0 ? ['provider'] : [])];
  if (written.length === 0) return undefined;
  return `${written.join(' and ')} in the plugin configuration: no effect, this driver works without libvirt`;
}

function checkUri(key: string, uri: string | undefined, report: Report): void {
  if (uri === undefined || localUris.includes(uri)) return;
  report(
    key,
    `${quoted(uri)} is not the QEMU of this host: this driver starts QEMU itself and connects to no libvirt; leave it out or write "qemu:///system"`,
  );
}
