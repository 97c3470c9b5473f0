import type { SeedMount, SeedNic, SeedSsh } from '#cloudinit';
import { type Logger, type ProcessIdentity, together, type UndoLog } from '#host';
import type { Part } from '#qemu';
import type { QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import type { DeviceRecord } from '../store/device-record.ts';
import type { VmPaths } from '../store/paths.ts';
import type { VmUndo } from '../store/undo.ts';
import type { Emit } from '../task-event.ts';
import type { OpenFiles } from './files.ts';

/** Where a VM is being created. */
export interface Site {
  readonly vm: string;
  readonly paths: VmPaths;
  readonly allocDir: string;
  /** User that QEMU will run as; no other VM has it. */
  readonly uid: number;
  readonly undo: UndoLog<VmUndo>;
  /** Files opened for QEMU, by the roles that the parts name. */
  readonly files: OpenFiles;
  readonly emit: Emit;
  readonly log: Logger;
}

/** What others have to know of a device. */
export interface Facts {
  /** For another process to adopt the device, and for InspectTask. */
  readonly record: DeviceRecord;
  /** Of this host, from which it reaches the guest by this device; left out where that is not known. */
  readonly hostAddress?: string;
  /** What the guest must be given in its seed. */
  readonly guest?: {
    readonly mounts?: readonly SeedMount[];
    readonly nics?: readonly SeedNic[];
    readonly ssh?: SeedSsh;
    /** Variables that are added to the task's environment, or replace those of their names. */
    readonly env?: Readonly<Record<string, string>>;
  };
}

/** Facts that are found out while QEMU initialises: at the first call, and for every caller. undefined: there are none. */
export interface LateFacts {
  readonly facts: () => Promise<Facts | undefined>;
}

/** A device whose host side exists. Everything after the preparation works with this, whatever the device is. */
export type Prepared = PreparedPart & (Facts | LateFacts);

interface PreparedPart {
  readonly part: Part;
  /** The server whose answer QEMU waits for while it initialises: the job's key for it, and for how long it may be silent. */
  readonly awaited?: { readonly key: string; readonly silenceMs: number };
  /**
   * Work that must be finished before the guest runs but not before QEMU starts: done while QEMU initialises. Returns
   * the processes that serve the device: they are added to the task's cgroup and statistics.
   */
  readonly finish?: () => Promise<readonly ProcessIdentity[]>;
  /** Commands for the paused QEMU before the guest runs. */
  readonly beforeGuest?: (qmp: QmpClient, waiting: Waiting) => Promise<void>;
}

/** The facts of devices in their order; they are found out at the same time. */
export async function factsOf(devices: readonly Prepared[]): Promise<readonly Facts[]> {
  const all = await together(
    devices.map((device) => ('facts' in device ? device.facts() : device)),
  );
  return all.filter((facts) => facts !== undefined);
}
