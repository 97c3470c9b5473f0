import type { VmSpec } from '#spec';
import { builtinName } from '../agent/builtin-lists.ts';
import type { TaskConfig } from '../gen/driver_pb.ts';
import { decodeConfig } from '../hcl/decode-fields.ts';
import { type Problem, reportTo } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';
import { type Builtin, readBuiltin } from './builtin/builtin.ts';
import { builtinFields } from './builtin/fields.ts';
import { diskMounts, disksFields, readDisks } from './disks/disks.ts';
import { checkDisplayPort } from './display.ts';
import { guestFields, readGuest } from './guest.ts';
import { readIdentity } from './identity.ts';
import type { Job, TaskContext } from './job.ts';
import { machineFields, readMachine } from './machine.ts';
import { nicFields, readNics } from './nics/nics.ts';
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

/** The same of a job for Nomad's builtin driver. */
const builtinTaskSchema = { ...taskSchema, ...builtinFields } as const satisfies Fields;

/** What jobs of a driver of this name may have. */
export function taskSchemaOf(driverName: string): Fields {
  return driverName === builtinName ? builtinTaskSchema : taskSchema;
}

/** The VM that a task asks for, as far as it could be read, and everything wrong with it by its place in the job. */
export interface PlannedTask {
  readonly spec: VmSpec;
  readonly problems: readonly Problem[];
}

/** A task as Nomad describes it → the VM it asks for. Throws PluginError 'invalid' when it can't be read at all. */
export function planTask(task: TaskConfig, context: TaskContext): PlannedTask {
  const problems: Problem[] = [];
  const decode = <F extends Fields>(fields: F): Decoded<F> =>
    decodeConfig(fields, task.msgpackDriverConfig, { what: 'driver config', problems });
  if (context.driverName !== builtinName) {
    const raw = decode(taskSchema);
    const spec = readTask(raw, undefined, { ...context, task, report: reportTo(problems) });
    return { spec, problems };
  }
  const raw = decode(builtinTaskSchema);
  const job: Job = { ...context, task, report: reportTo(problems) };
  const builtin = readBuiltin(raw, job);
  return { spec: readTask({ ...raw, ...builtin.keys }, builtin, job), problems };
}

type Raw = Decoded<Omit<typeof taskSchema, keyof typeof builtinFields>> &
  Pick<Decoded<typeof taskSchema>, 'accelerator'>;

function readTask(raw: Raw, builtin: Builtin | undefined, job: Job): VmSpec {
  const { task } = job;
  checkUnsupported(job);
  const machine = readMachine(raw, job);
  const mounts = readVolumes(job, diskMounts(raw, job));
  // A job of the builtin driver is in the network of its group by its own options.
  const hasNics = builtin === undefined || raw.network_interface.length > 0;
  const nics = [
    ...(hasNics ? readNics(raw, job, raw.display?.vnc?.port) : []),
    ...(builtin?.nics ?? []),
  ];
  const blocks = readBlocks(optional, raw, job);
  const ofArgs = builtin?.settings.display;
  const display = ofArgs ?? blocks.display;
  checkDisplayPort({ nics, display, key: ofArgs ? 'args' : 'display.vnc.port' }, job);
  return {
    name: vmName(task.id),
    identity: readIdentity(job),
    ...machine,
    disks: builtin?.disks ?? readDisks(raw, machine, job),
    nics,
    shares: [...(builtin?.shares ?? sharesOf(task)), ...mounts],
    guest: readGuest(raw, job),
    ...blocks,
    ...builtin?.settings,
    allocDir: task.allocDir,
    taskDir: taskDirOf(task),
    stdoutPath: task.stdoutPath,
    stderrPath: task.stderrPath,
    cgroupPath: task.resources?.linuxResources?.cpusetCgroup ?? '',
  };
}
