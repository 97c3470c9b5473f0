import type { VmSpec } from '#spec';
import type { TaskConfig } from '../gen/driver_pb.ts';
import { decodeConfig } from '../hcl/decode-fields.ts';
import { type Problem, reportTo } from '../hcl/problem.ts';
import type { Fields } from '../hcl/schema.ts';
import { diskMounts, disksFields, readDisks } from './disks/disks.ts';
import { guestFields, readGuest } from './guest.ts';
import { readIdentity } from './identity.ts';
import type { Job, TaskContext } from './job.ts';
import { machineFields, readMachine } from './machine.ts';
import { nicFields, readNics } from './nic.ts';
import * as optional from './optional.ts';
import { fieldsOf, readBlocks } from './optional-block.ts';
import { otherDriverFields } from './other-drivers.ts';
import { sharesOf, taskDirOf } from './shares.ts';
import { checkUnsupported } from './unsupported.ts';
import { vmName } from './vm-name.ts';
import { readVolumes } from './volumes.ts';

/** `task { config { … } }` of a job. */
export const taskSchema = {
  ...disksFields,
  ...guestFields,
  ...machineFields,
  ...nicFields,
  ...otherDriverFields,
  ...fieldsOf(optional),
} as const satisfies Fields;

/** The VM that a task asks for, as far as it could be read, and everything wrong with it by its place in the job. */
export interface PlannedTask {
  readonly spec: VmSpec;
  readonly problems: readonly Problem[];
}

/** A task as Nomad describes it → the VM it asks for. Throws PluginError 'invalid' when it can't be read at all. */
export function planTask(task: TaskConfig, context: TaskContext): PlannedTask {
  const problems: Problem[] = [];
  const raw = decodeConfig(taskSchema, task.msgpackDriverConfig, {
    what: 'driver config',
    problems,
  });
  const job: Job = { ...context, task, report: reportTo(problems) };
  checkUnsupported(job);
  const machine = readMachine(raw, job);
  const spec: VmSpec = {
    name: vmName(task.id),
    identity: readIdentity(job),
    ...machine,
    disks: readDisks(raw, machine, job),
    nics: readNics(raw, job),
    shares: [...sharesOf(task), ...readVolumes(job, diskMounts(raw, job))],
    guest: readGuest(raw, job),
    ...readBlocks(optional, raw, job),
    allocDir: task.allocDir,
    taskDir: taskDirOf(task),
    stdoutPath: task.stdoutPath,
    stderrPath: task.stderrPath,
    cgroupPath: task.resources?.linuxResources?.cpusetCgroup ?? '',
  };
  return { spec, problems };
}
