import type { Report } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';

/** The name of Nomad's builtin driver; a plugin of this name takes its place and its jobs. */
export const builtinName = 'qemu';

/** Keys of the builtin driver's plugin block that this driver does not have for jobs of its own. */
export const builtinListFields = {
  args_allowlist: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'The options that `args` of a job may have, each with its dash. Without it those that docs/migrating.md lists. Only for the driver name `qemu`.',
    example: '["-smp", "-netdev"]',
  },
  emulators_allowlist: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'What `emulator` of a job may be. Without it every emulator that this driver starts. Only for the driver name `qemu`.',
    example: '["x86_64"]',
  },
} as const satisfies Fields;

/** What the operator lets jobs of the builtin driver have; an empty list is no restriction. */
export interface BuiltinLists {
  readonly args: readonly string[];
  /** Without `qemu-system-`. */
  readonly emulators: readonly string[];
  /** The managed network that their guests are in; undefined: QEMU's user-mode network. */
  readonly bridge?: string;
}

export function readBuiltinLists(
  raw: Decoded<typeof builtinListFields>,
  driverName: string,
  report: Report,
): BuiltinLists {
  for (const key of ['args_allowlist', 'emulators_allowlist'] as const) {
    if (raw[key].length > 0 && driverName !== builtinName) {
      report(key, `is for the driver name "${builtinName}" only; leave it out`);
    }
  }
  return { args: raw.args_allowlist, emulators: raw.emulators_allowlist.map(emulatorArch) };
}

/** `qemu-system-x86_64` and `x86_64` are the same emulator. */
export function emulatorArch(emulator: string): string {
  return emulator.replace(/^qemu-system-/, '');
}
