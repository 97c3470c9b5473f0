import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { errnoOf, HostError } from '../error.ts';
import { readSmall } from '../files/small-file.ts';

/** How a VM joins the control groups that Nomad made for its task. */
export interface CgroupPlan {
  readonly version: 1 | 2;
  /** Directories whose cgroup.procs gets the pid. */
  readonly groups: readonly string[];
  /** In this order, before the first pid: a cpuset without cores or memory nodes takes no process. */
  readonly writes: readonly { readonly file: string; readonly value: string }[];
  /** Where the kernel counts the processes that it killed for lack of memory. */
  readonly oomFile: string | undefined;
}

export interface CgroupRequest {
  /** The task's cpuset group as Nomad names it; '' when it makes no groups. */
  readonly cgroupPath: string;
  readonly allocId: string;
  readonly taskName: string;
  /** Hard limit; 0 is none. */
  readonly memoryBytes: number;
  /** Relative weight in Nomad's unit (MHz); 0 leaves the default. */
  readonly cpuShares: number;
  /** Reserved cores; empty when the task shares cores with others. */
  readonly cores: readonly number[];
}

/**
 * Finds the task's groups. v2: one group, `…/<alloc>.<task>.scope`. v1: `cpuset/<parent>/share` (of all tasks without
 * cores of their own) or `cpuset/<parent>/reserve/<alloc>.<task>`, and per other controller `<parent>/<alloc>.<task>`.
 * undefined when there are none. `exists` is called with paths of directories and files.
 */
export function planCgroup(
  request: CgroupRequest,
  exists: (path: string) => boolean,
): CgroupPlan | undefined {
  const { cgroupPath } = request;
  // Where Nomad may not make groups, its path may begin with an empty part and names no group.
  if (!cgroupPath.startsWith('/') || !exists(join(cgroupPath, 'cgroup.procs'))) return undefined;
  const v1 = /^(?<root>.*)\/cpuset\/(?<parent>[^/]+)\/(?<part>share|reserve)(?:\/[^/]+)?$/.exec(
    cgroupPath,
  )?.groups;
  if (v1 === undefined) return planV2(request, exists);
  const { root = '', parent = '', part = '' } = v1;
  const own = `${request.allocId}.${request.taskName}`;
  const groupOf = (controller: string): string => join(root, controller, parent, own);
  return planV1({ ...request, reserved: part === 'reserve' }, groupOf, exists);
}

function planV2(request: CgroupRequest, exists: (path: string) => boolean): CgroupPlan {
  const { cgroupPath, memoryBytes, cpuShares, cores } = request;
  const wanted = [
    ...(cores.length > 0 ? [{ name: 'cpuset.cpus', value: cores.join(',') }] : []),
    ...(memoryBytes > 0 ? [{ name: 'memory.max', value: String(memoryBytes) }] : []),
    ...(cpuShares > 0 ? [{ name: 'cpu.weight', value: String(weightOfShares(cpuShares)) }] : []),
  ];
  const oomFile = join(cgroupPath, 'memory.events');
  return {
    version: 2,
    groups: [cgroupPath],
    // A controller that is not enabled for the group has no files there.
    writes: wanted.flatMap(({ name, value }) => {
      const file = join(cgroupPath, name);
      return exists(file) ? [{ file, value }] : [];
    }),
    oomFile: exists(oomFile) ? oomFile : undefined,
  };
}

function planV1(
  request: CgroupRequest & { readonly reserved: boolean },
  groupOf: (controller: string) => string,
  exists: (path: string) => boolean,
): CgroupPlan {
  const { cgroupPath, memoryBytes, cpuShares, cores, reserved } = request;
  const found = ['cpu', 'memory', 'freezer'].filter((controller) => exists(groupOf(controller)));
  const file = (controller: string, name: string): string => join(groupOf(controller), name);
  const writes = [
    // The share group belongs to all tasks: Nomad chooses its cores.
    ...(reserved && cores.length > 0
      ? [{ file: join(cgroupPath, 'cpuset.cpus'), value: cores.join(',') }]
      : []),
    ...(found.includes('memory') && memoryBytes > 0
      ? [{ file: file('memory', 'memory.limit_in_bytes'), value: String(memoryBytes) }]
      : []),
    ...(found.includes('cpu') && cpuShares > 0
      ? [{ file: file('cpu', 'cpu.shares'), value: String(clampShares(cpuShares)) }]
      : []),
  ];
  return {
    version: 1,
    groups: [cgroupPath, ...found.map(groupOf)],
    writes,
    oomFile: found.includes('memory') ? file('memory', 'memory.oom_control') : undefined,
  };
}

const minShares = 2;
const maxShares = 262_144;

function clampShares(shares: number): number {
  return Math.min(maxShares, Math.max(minShares, Math.round(shares)));
}

/** Maps v1 shares (2 to 262144) to v2 weight (1 to 10000) linearly, as container runtimes and Nomad do. */
export function weightOfShares(shares: number): number {
  return 1 + Math.floor(((clampShares(shares) - minShares) * 9999) / (maxShares - minShares));
}

/** What became of a process in its groups. */
export interface Joined {
  /** It runs on the cores of all tasks, where it was to have some of its own. */
  readonly sharesCores: boolean;
}

/**
 * Sets the limits, then moves the process with all its threads. Nomad gives cores back by their numbers: an allocation that
 * ends while the next one starts on the same cores takes them from that one, and in version 1 no group can have them then
 * (client/lib/cgroupslib/partition_linux.go). Throws HostError.
 */
export function joinCgroup(plan: CgroupPlan, pid: number): Joined {
  const lost = plan.writes.filter((limit) => !isSet(limit)).map(({ file }) => dirname(file));
  for (const group of plan.groups) {
    const joined = lost.includes(group) ? shareBeside(group) : group;
    write(join(joined, 'cgroup.procs'), String(pid));
  }
  return { sharesCores: lost.length > 0 };
}

/** Sets a limit; false for cores that the group's parent does not have. */
function isSet({ file, value }: CgroupPlan['writes'][number]): boolean {
  const isCores = file.endsWith('/cpuset.cpus');
  try {
    write(file, value);
  } catch (error) {
    if (isCores && errnoOf(error) === 'EACCES') return false;
    throw error;
  }
  if (isCores) inheritMemoryNodes(dirname(file));
  return true;
}

function shareBeside(reserved: string): string {
  return join(dirname(dirname(reserved)), 'share');
}

/** A v1 cpuset begins with no memory nodes at all; v2 takes the parent's by itself and shows an empty file for it. */
function inheritMemoryNodes(group: string): void {
  if (readOrEmpty(join(dirname(group), 'cgroup.controllers')) !== '') return;
  const file = join(group, 'cpuset.mems');
  if (readOrEmpty(file) !== '') return;
  const parents = readOrEmpty(join(dirname(group), 'cpuset.mems'));
  if (parents !== '') write(file, parents);
}

function write(file: string, value: string): void {
  try {
    writeFileSync(file, value, { flag: 'r+' }); // not created: a removed group must not become a plain file
  } catch (error) {
    const errno = errnoOf(error);
    const what = `writing ${value} to ${file}: ${errno ?? String(error)}`;
    throw new HostError(what, { cause: error, errno });
  }
}

/** How many processes of the task the kernel has killed for lack of memory; 0 where the count can't be read. */
export function oomKills(plan: CgroupPlan): number {
  if (plan.oomFile === undefined) return 0;
  return Number(/^oom_kill (\d+)$/m.exec(readOrEmpty(plan.oomFile))?.[1] ?? 0);
}

/** How the kernel held a group back because of its CPU quota, since it exists. */
export interface CpuThrottling {
  readonly periods: number;
  readonly throttledPeriods: number;
  readonly throttledNs: number;
}

/** The file that counts it; undefined where no group of the plan does. */
export function throttlingFile({ groups }: CgroupPlan): string | undefined {
  return groups
    .map((group) => join(group, 'cpu.stat'))
    .find((file) => parseThrottling(readOrEmpty(file)) !== undefined);
}

/** Decodes a `cpu.stat`; undefined where it has no count of periods. */
export function parseThrottling(text: string): CpuThrottling | undefined {
  const periods = field(text, /^nr_periods (\d+)$/m);
  if (periods === undefined) return undefined;
  const throttledPeriods = field(text, /^nr_throttled (\d+)$/m) ?? 0;
  // Nanoseconds in version 1, microseconds in version 2.
  const throttledNs =
    field(text, /^throttled_time (\d+)$/m) ?? (field(text, /^throttled_usec (\d+)$/m) ?? 0) * 1000;
  return { periods, throttledPeriods, throttledNs };
}

function field(text: string, line: RegExp): number | undefined {
  const found = line.exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}

function readOrEmpty(file: string): string {
  try {
    return readSmall(file).trim();
  } catch {
    return '';
  }
}
