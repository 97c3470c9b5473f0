import { readdir } from 'node:fs/promises';
import { errnoOf } from '#host';
import { VmError } from '../error.ts';
import { pathsIn } from '../store/paths.ts';
import { readRecord } from '../store/record.ts';

/** A task as operators name it. */
export interface TaskOfVm {
  /** The id of its allocation, or the beginning of it. */
  readonly alloc: string;
  /** The task's name; undefined: the only one of the allocation that is a VM. */
  readonly task: string | undefined;
}

/** The control socket of a task's VM. Throws VmError where there is none, or more than one VM is meant. */
export async function findControl(dataDir: string, { alloc, task }: TaskOfVm): Promise<string> {
  const found: { readonly name: string; readonly control: string }[] = [];
  for (const vm of await names(`${dataDir}/vms`)) {
    const dir = `${dataDir}/vms/${vm}`;
    // The record of another VM may be of any release.
    const record = await readRecord(`${dir}/vm.json`).catch(() => undefined);
    if (record === undefined || !record.allocId.startsWith(alloc)) continue;
    if (task !== undefined && record.taskName !== task) continue;
    const { control } = pathsIn(dir, { name: vm, run: record.runDir });
    found.push({ name: `${record.allocId}/${record.taskName}`, control });
  }
  const [first, ...others] = found;
  const wanted = task === undefined ? alloc : `${alloc}/${task}`;
  if (first === undefined) {
    throw new VmError(
      'host',
      `there is no VM of ${wanted} in ${dataDir}; --data-dir is data_dir of the plugin`,
    );
  }
  if (others.length === 0) return first.control;
  throw new VmError('host', `${wanted} may be ${found.map(({ name }) => name).join(' or ')}`);
}

async function names(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch (cause) {
    if (errnoOf(cause) === 'EACCES') {
      throw new VmError('host', `${path} is open to root only: run this as root`, { cause });
    }
    throw new VmError('host', `there are no VMs in ${path}; --data-dir is data_dir of the plugin`, {
      cause,
    });
  }
}
