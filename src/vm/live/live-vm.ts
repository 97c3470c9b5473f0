import type { Exit, Logger, ProcessIdentity } from '#host';
import type { QmpClient } from '#qmp';
import type { TaskLogs } from '../logs/task-logs.ts';
import type { VmPaths } from '../store/paths.ts';
import type { VmRecord } from '../store/record.ts';
import type { Emit } from '../task-event.ts';
import type { Containment } from './containment.ts';

/** What this process holds of a VM that it started or adopted. */
export interface LiveVm {
  readonly record: VmRecord;
  readonly paths: VmPaths;
  readonly identity: ProcessIdentity;
  /** Connected and negotiated; undefined when QEMU does not answer at the moment. */
  readonly qmp: QmpClient | undefined;
  /** Whether the guest is paused; after a start it runs. */
  readonly paused: boolean;
  /** How the process ended, from the kernel, where QEMU is our child process. */
  readonly status: Promise<Exit> | undefined;
  readonly logs: TaskLogs;
  /** Undefined where an earlier release started the VM without limits. */
  readonly containment: Containment | undefined;
  /** The processes that serve its devices. */
  readonly helpers: readonly ProcessIdentity[];
  /** Maximum size of a disk that grows. */
  readonly maxDiskBytes: number;
  readonly log: Logger;
  readonly emit: Emit;
}
