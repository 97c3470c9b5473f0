import type { SeedMount, SeedNic } from '#cloudinit';
import type { Logger, ProcessIdentity, UndoLog } from '#host';
import type { Part } from '#qemu';
import type { QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import type { DeviceRecord } from '../store/device-record.ts';
import type { VmPaths } from '../store/paths.ts';
import type { VmUndo } from '../store/undo.ts';
import type { Emit } from '../task-event.ts';
import type { OpenFiles } from './files.ts';

/** Where a VM is being made. */
export interface Site {
  readonly vm: string;
  readonly paths: VmPaths;
  readonly allocDir: string;
  /** User that QEMU will run as; no other VM has it. */
  readonly uid: number;
  readonly undo: UndoLog<VmUndo>;
  /** What is opened for QEMU, by the roles that the parts name. */
  readonly files: OpenFiles;
  readonly emit: Emit;
  readonly log: Logger;
}

/** A device whose host side is made. Everything after the preparation works with this, whatever the device is. */
export interface Prepared {
  readonly part: Part;
  /** For another process to adopt the device, and for InspectTask. */
  readonly record: DeviceRecord;
  /** What the guest must be given in its seed. */
  readonly guest?: { readonly mounts?: readonly SeedMount[]; readonly nics?: readonly SeedNic[] };
  /**
   * Work that QEMU does not wait for and the guest must: done while QEMU initialises, before the guest runs. Returns the
   * processes that serve the device: they belong into the task's cgroup and figures.
   */
  readonly finish?: () => Promise<readonly ProcessIdentity[]>;
  /** Asked of the paused QEMU before the guest runs. */
  readonly beforeGuest?: (qmp: QmpClient, waiting: Waiting) => Promise<void>;
}
