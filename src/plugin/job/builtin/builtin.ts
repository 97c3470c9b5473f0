import type { DiskSpec, NicSpec, ShareSpec, VmSpec } from '#spec';
import type { Decoded } from '../../hcl/schema.ts';
import type { diskFields } from '../disks/fields.ts';
import { type oneDiskFields, oneDiskKeys } from '../disks/one-disk.ts';
import type { guestFields } from '../guest.ts';
import type { Job } from '../job.ts';
import type { machineFields } from '../machine.ts';
import type { nicFields } from '../nics/nics.ts';
import { sharesOf } from '../shares.ts';
import { argKey, readWishes, type Wishes } from './args.ts';
import { readDrives } from './disks.ts';
import type { builtinFields } from './fields.ts';
import { readMachineKeys, readSettings } from './machine.ts';
import { readArgNics } from './nics.ts';
import { readPortMap } from './reserved-ports.ts';
import { readArgShares } from './shares.ts';

type Raw = Decoded<
  Omit<typeof machineFields, 'accelerator'> &
    typeof builtinFields &
    typeof oneDiskFields &
    typeof diskFields &
    typeof nicFields &
    typeof guestFields
>;

/** What a job for the builtin driver asks for: keys of this driver's own jobs, and parts of the VM. */
export interface Builtin {
  readonly keys: ReturnType<typeof readMachineKeys>;
  /** undefined: the job has disks by the keys of this driver. */
  readonly disks: readonly DiskSpec[] | undefined;
  readonly nics: readonly NicSpec[];
  readonly shares: readonly ShareSpec[];
  readonly settings: ReturnType<typeof readSettings> & Pick<VmSpec, 'seed'>;
}

/** Reports everything wrong with these keys. */
export function readBuiltin(raw: Raw, job: Job): Builtin {
  const wishes = readWishes(raw.args, job);
  const keys = readMachineKeys(raw, wishes, job);
  const arch = keys.os?.arch === 'aarch64' ? 'aarch64' : 'x86_64';
  const hasOwn = raw.network_interface.length > 0;
  const machine = { arch, machine: keys.os?.machine, hasOwn } as const;
  const shares = hasGuestKeys(raw) ? sharesOf(job.task) : [];
  checkChardevs(wishes, job);
  const settings = readSettings(wishes, job);
  const mapped = readPortMap(raw, settings.display, job);
  const notes = [...(settings.notes ?? []), ...mapped.notes];
  return {
    keys,
    disks: readDisks(raw, { arch, wishes }, job),
    nics: readArgNics(mapped.ports, { wishes, machine }, job),
    shares: [...shares, ...readArgShares(wishes, shares, job)],
    settings: {
      ...settings,
      ...(notes.length === 0 ? {} : { notes }),
      ...(hasGuestKeys(raw) ? {} : { seed: false }),
    },
  };
}

function readDisks(
  raw: Raw,
  { arch, wishes }: { readonly arch: VmSpec['arch']; readonly wishes: Wishes },
  { report }: Job,
): readonly DiskSpec[] | undefined {
  const others = [...oneDiskKeys(raw), ...(raw.disk.length > 0 ? ['disk'] : [])];
  const [drive] = wishes.all('drive');
  if (!raw.image_path && others.length > 0) {
    if (drive !== undefined) {
      report(argKey(drive.at), `can not be used together with ${others.join(', ')}`);
    }
    return undefined;
  }
  if (!raw.image_path) report('image_path', 'must be set');
  else if (others.length > 0) {
    report('image_path', `can not be used together with ${others.join(', ')}`);
  }
  return readDrives(raw, { arch, wishes, report });
}

/** A socket or file is nothing to open for a guest, but for the agent, whose socket is the driver's. */
function checkChardevs(wishes: Wishes, { report }: Job): void {
  const agents = wishes.all('agent-port').map(({ chardev }) => chardev);
  for (const { id, opens, at } of wishes.all('chardev')) {
    if (opens === undefined || agents.includes(id)) continue;
    report(argKey(at), `-chardev ${opens} is not supported: only the guest agent has a socket`);
  }
}

/** Whether the job sets up something in the guest. Without it no seed competes with one that the job brings along. */
function hasGuestKeys(raw: Raw): boolean {
  const lists = [raw.cmds, raw.default_user_authorized_ssh_keys, raw.meta_data ?? []];
  return (
    lists.some((list) => list.length > 0) ||
    [
      raw.hostname,
      raw.user_data,
      raw.network_config,
      raw.default_user_authorized_ssh_key,
      raw.default_user_password,
      raw.timezone,
    ].some((value) => value !== undefined && value !== '')
  );
}
