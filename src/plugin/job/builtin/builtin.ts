import { type DiskSpec, listed, quoted, type VmSpec } from '#spec';
import { emulatorArch } from '../../agent/builtin-lists.ts';
import type { Decoded } from '../../hcl/schema.ts';
import type { diskFields } from '../disks/fields.ts';
import { type oneDiskFields, oneDiskKeys } from '../disks/one-disk.ts';
import type { guestFields } from '../guest.ts';
import type { Job } from '../job.ts';
import type { machineFields } from '../machine.ts';
import { readArgs } from './args.ts';
import { readImagePath } from './boot-disk.ts';
import type { builtinFields } from './fields.ts';

type Raw = Decoded<
  Omit<typeof machineFields, 'accelerator'> &
    typeof builtinFields &
    typeof oneDiskFields &
    typeof diskFields &
    typeof guestFields
>;

/** What a job for the builtin driver asks for: keys of this driver's own jobs, and parts of the VM. */
export interface Builtin {
  readonly keys: Pick<Decoded<typeof machineFields>, 'os' | 'accelerator'>;
  /** undefined: the job has disks by the keys of this driver. */
  readonly disks: readonly DiskSpec[] | undefined;
  readonly seed: boolean;
}

/** Reports everything wrong with these keys. */
export function readBuiltin(raw: Raw, job: Job): Builtin {
  const arch = readEmulator(raw, job);
  readArgs(raw, job);
  if (raw.port_map !== undefined) {
    job.report('port_map', 'is not supported: use `network_interface { bridge { ports } }`');
  }
  return {
    keys: {
      os: { arch, machine: raw.machine_type || raw.os?.machine || machines[arch] },
      accelerator: raw.accelerator ?? 'tcg',
    },
    disks: readDisks(raw, { arch }, job),
    seed: hasGuestKeys(raw),
  };
}

const machines = { x86_64: 'pc', aarch64: 'virt' } as const;

function readEmulator({ emulator, os }: Raw, { builtin, report }: Job): VmSpec['arch'] {
  const arch = emulatorArch(emulator);
  const allowed = builtin?.emulators ?? [];
  if (allowed.length > 0 && !allowed.includes(arch)) {
    report('emulator', `${quoted(emulator)} is not an allowed emulator: ${listed(allowed)}`);
  }
  if (os?.arch) report('os.arch', 'is `emulator` in this job; leave it out');
  if (arch === 'x86_64' || arch === 'aarch64') return arch;
  report('emulator', `${quoted(emulator)} is not supported; supported are x86_64 and aarch64`);
  return 'x86_64';
}

function readDisks(
  raw: Raw,
  machine: Pick<VmSpec, 'arch'>,
  { report }: Job,
): readonly DiskSpec[] | undefined {
  const others = [...oneDiskKeys(raw), ...(raw.disk.length > 0 ? ['disk'] : [])];
  if (!raw.image_path && others.length > 0) return undefined;
  if (!raw.image_path) report('image_path', 'must be set');
  else if (others.length > 0) {
    report('image_path', `can not be used together with ${others.join(', ')}`);
  }
  return [readImagePath(raw, machine, report)];
}

/** Whether the job sets up something in the guest. Without it no seed competes with one that the job brings along. */
function hasGuestKeys(raw: Raw): boolean {
  return (
    raw.cmds.length > 0 ||
    [
      raw.hostname,
      raw.user_data,
      raw.default_user_authorized_ssh_key,
      raw.default_user_password,
      raw.timezone,
    ].some((value) => value !== undefined && value !== '')
  );
}
