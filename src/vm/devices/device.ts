import type { SeedMount, SeedNic, SeedSsh } from '#cloudinit';
import type { Logger, ProcessIdentity, UndoLog } from '#host';
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

/** A device whose host side exists. Everything after the preparation works with this, whatever the device is. */
export interface Prepared {
  readonly part: Part;
  /** For another process to adopt the device, and for InspectTask. */
  readonly record: DeviceRecord;
  /** What the guest must be given in its seed. */
  readonly guest?: {
    readonly mounts?: readonly SeedMount[];
    readonly nics?: readonly SeedNic[];
    readonly ssh?: SeedSsh;
    /** Variables that are added to the task's environment, or replace those of their names. */
    readonly env?: Readonly<Record<string, string>>;
  };
  /**
   * Work that must be finished before the guest runs but not before QEMU starts: done while QEMU initialises. Returns
   * the processes that serve the device: they are added to the task's cgroup and statistics.
   */
  readonly finish?: () => Promise<readonly ProcessIdentity[]>;
  /** Commands for the paused QEMU before the guest runs. */
  readonly beforeGuest?: (qmp: QmpClient, waiting: Waiting) => Promise<void>;
}
