import type { Arch, StoragePools } from '#spec';
import type { BuiltinLists } from '../agent/builtin-lists.ts';
import type { Limits } from '../agent/limits.ts';
import type { TaskConfig } from '../gen/driver_pb.ts';
import type { Report } from '../hcl/problem.ts';

/** What a task's configuration is checked against, beside the task itself. */
export interface TaskContext {
  /** As jobs write it; messages begin with it. */
  readonly driverName: string;
  readonly limits: Limits;
  readonly pools: StoragePools;
  /** For jobs of Nomad's builtin driver. */
  readonly builtin?: BuiltinLists;
  /** undefined on an architecture that no known emulator is native to. */
  readonly hostArch: Arch | undefined;
}

/** What each reader of a block gets beside the block: the whole task, its context, and where problems are reported. */
export interface Job extends TaskContext {
  readonly task: TaskConfig;
  readonly report: Report;
}
