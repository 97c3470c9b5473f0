import type {
  Arch,
  FirmwareChoice,
  NicSpec,
  PortSpec,
  ShareSpec,
  UserData,
  VmIdentity,
  VmSpec,
} from '#spec';
import type { LimitsConfig } from './config.ts';
import { taskSchema } from './config-schema.ts';
import { CtyError, type CtyValue, decodeCty } from './cty.ts';
import { type Complain, complainTo, decodeFields, type Problem } from './decode-fields.ts';
import { PluginError } from './error.ts';
import { NetworkIsolationSpec_NetworkIsolationMode, type TaskConfig } from './gen/driver_pb.ts';
import type { Decoded } from './schema.ts';
import { isTimeZone } from './time-zone.ts';
import { vmName } from './vm-name.ts';

/** What a task's specification depends on beside the task. */
export interface TaskContext {
  readonly limits: LimitsConfig;
  /** Of this host, as Node names it; undefined when QEMU has no emulator for it that we know. */
  readonly hostArch: Arch | undefined;
}

/** The VM that a task asks for, as far as it could be made out, and everything wrong with it by its place in the job. */
export interface PlannedTask {
  readonly spec: VmSpec;
  readonly problems: readonly Problem[];
}

/** A task as Nomad describes it → the VM it asks for. Throws PluginError 'config' when it can't be read at all. */
export function planTask(task: TaskConfig, context: TaskContext): PlannedTask {
  const problems: Problem[] = [];
  const raw = decodeFields(taskSchema, decodeBytes(task), problems);
  const complain = complainTo(problems);
  checkUnsupported(task, complain);
  const pinnedCores = readCores(task, complain);
  const name = vmName(task.id);
  const taskDir = `${task.allocDir}/${task.name}`;
  const spec: VmSpec = {
    name,
    identity: readIdentity(task, complain),
    arch: readArch(raw, context, complain),
    machine: readMachine(raw, complain),
    // The schema's oneOf are the lists of these two.
    accelerator: raw.accelerator as VmSpec['accelerator'],
    firmware: raw.firmware as FirmwareChoice,
    vcpus: readVcpus(raw, pinnedCores, complain),
    pinnedCores,
    cpuShares: Number(
      task.resources?.linuxResources?.cpuShares ||
        task.resources?.allocatedResources?.cpu?.cpuShares ||
        0n,
    ),
    memoryMiB: readMemory(task, context, complain),
    disk: readDisk(raw, context, complain),
    nics: readNics(raw, task, complain),
    shares: sharesOf(task.allocDir, taskDir),
    guest: {
      hostname: readHostname(raw, name, complain),
      userData: readUserData(raw.user_data),
      password: raw.default_user_password || undefined,
      authorizedKey: raw.default_user_authorized_ssh_key || undefined,
      commands: raw.cmds,
      timezone: readTimezone(raw, complain),
      ...(task.dns === undefined
        ? {}
        : { dns: { servers: task.dns.servers, searches: task.dns.searches } }),
      env: task.env,
    },
    allocDir: task.allocDir,
    taskDir,
    stdoutPath: task.stdoutPath,
    stderrPath: task.stderrPath,
    cgroupPath: task.resources?.linuxResources?.cpusetCgroup ?? '',
  };
  return { spec, problems };
}

type Raw = Decoded<typeof taskSchema>;

function decodeBytes(task: TaskConfig): CtyValue {
  try {
    return decodeCty(task.msgpackDriverConfig);
  } catch (cause) {
    if (!(cause instanceof CtyError)) throw cause;
    throw new PluginError('config', 'virt: failed to decode driver config', { cause });
  }
}

/** Refused rather than ignored: a job that asks for it would not get what it counts on. */
function checkUnsupported(task: TaskConfig, complain: Complain): void {
  const mode = task.networkIsolationSpec?.mode ?? NetworkIsolationSpec_NetworkIsolationMode.HOST;
  if (mode !== NetworkIsolationSpec_NetworkIsolationMode.HOST) {
    complain('network', 'only the group network mode "host" is supported');
  }
  for (const mount of task.mounts) {
    complain('volume_mount', `${JSON.stringify(mount.taskPath)}: volumes are not supported`);
  }
  for (const device of task.devices) {
    complain('resources.device', `${JSON.stringify(device.hostPath)}: devices are not supported`);
  }
  if (task.user !== '') {
    complain('user', `${JSON.stringify(task.user)}: a VM runs as a user of its own; leave it out`);
  }
  if ((task.dns?.options.length ?? 0) > 0) {
    complain('network.dns.options', 'can not be passed to guests; set them in user_data');
  }
}

function readIdentity(task: TaskConfig, complain: Complain): VmIdentity {
  if (task.name === '' || /[/\0]/.test(task.name) || task.name === '.' || task.name === '..') {
    complain('task', 'virtual machine name can not be empty: the task has no usable name');
  }
  if (!task.allocDir.startsWith('/')) complain('alloc_dir', 'must be an absolute path');
  return {
    taskId: task.id,
    taskName: task.name,
    allocId: task.allocId,
    groupName: task.taskGroupName,
    jobId: task.jobId,
    jobName: task.jobName,
    namespace: task.namespace,
    nodeName: task.nodeName,
    nodeId: task.nodeId,
  };
}

const archNames: Readonly<Record<string, Arch>> = {
  x86_64: 'x86_64',
  amd64: 'x86_64',
  aarch64: 'aarch64',
  arm64: 'aarch64',
};

function readArch(raw: Raw, { hostArch }: TaskContext, complain: Complain): Arch {
  const { arch, machine } = raw.os ?? {};
  if (raw.os !== undefined && !arch && !machine) {
    complain('os', 'provided os information is incomplete: arch and machine are mandatory');
  }
  if (!arch) {
    if (hostArch === undefined) complain('os.arch', 'is needed on a host of this architecture');
    return hostArch ?? 'x86_64';
  }
  const known = Object.hasOwn(archNames, arch) ? archNames[arch] : undefined;
  if (known !== undefined) return known;
  complain('os.arch', `${JSON.stringify(arch)} is not supported; supported are x86_64 and aarch64`);
  return 'x86_64';
}

function readMachine(raw: Raw, complain: Complain): string | undefined {
  const machine = raw.os?.machine || undefined;
  if (machine !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(machine)) {
    complain('os.machine', `${JSON.stringify(machine)} is not the name of a QEMU machine type`);
  }
  return machine;
}

/** Only the cores that `resources.cores` reserves are told here. */
function readCores(task: TaskConfig, complain: Complain): readonly number[] {
  const text = task.resources?.linuxResources?.cpusetCpus.trim() ?? '';
  const cores = new Set<number>();
  for (const part of text === '' ? [] : text.split(',')) {
    const [, first, last] = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part) ?? [];
    if (first === undefined || Number(last ?? first) < Number(first)) {
      complain('resources.cores', `${JSON.stringify(text)} is not a list of cores`);
      return [];
    }
    for (let core = Number(first); core <= Number(last ?? first); core += 1) cores.add(core);
  }
  return [...cores].toSorted((a, b) => a - b);
}

function readVcpus(raw: Raw, cores: readonly number[], complain: Complain): number {
  const vcpus = raw.vcpus ?? cores.length;
  if (vcpus < 1) {
    complain(
      'resources.cores',
      'no cpus configured, use resources.cores to assign cores in the job spec, or vcpus in the task config',
    );
  }
  return vcpus;
}

function readMemory(task: TaskConfig, { limits }: TaskContext, complain: Complain): number {
  const memory = Number(task.resources?.allocatedResources?.memory?.memoryMb ?? 0n);
  if (memory < limits.minMemoryMiB) {
    complain(
      'resources.memory',
      `not enough memory assigned to task: ${memory} MB, at least ${limits.minMemoryMiB} are needed`,
    );
  }
  return memory;
}

function readDisk(raw: Raw, { limits }: TaskContext, complain: Complain): VmSpec['disk'] {
  const image = raw.image ?? '';
  if (image === '') complain('image', 'image path can not be empty');
  const sizeMiB = raw.primary_disk_size ?? 0;
  if (sizeMiB < limits.minDiskMiB) {
    complain(
      'primary_disk_size',
      `not enough disk space assigned to task: ${sizeMiB} MB, at least ${limits.minDiskMiB} are needed`,
    );
  } else if (sizeMiB > limits.maxDiskMiB) {
    complain('primary_disk_size', `${sizeMiB} MB are more than the ${limits.maxDiskMiB} allowed`);
  }
  return { image, sizeMiB, thin: raw.use_thin_copy };
}

function readNics(raw: Raw, task: TaskConfig, complain: Complain): readonly NicSpec[] {
  if (raw.network_interface.length > 1) {
    complain('network_interface', 'only one network interface can be configured');
  }
  return raw.network_interface.flatMap(({ bridge }, index) => {
    const path = `network_interface[${index}]`;
    if (bridge === undefined) {
      complain(path, 'needs a bridge block');
      return [];
    }
    if (bridge.name === '') {
      complain(path, `network interface bridge '${index}' requires name parameter`);
    }
    const ports = bridge.ports.flatMap((label, at) =>
      readPort(task, label, (text) => complain(`${path}.bridge.ports[${at}]`, text)),
    );
    return [{ kind: 'bridge', bridge: bridge.name, ports }];
  });
}

function readPort(task: TaskConfig, label: string, complain: (text: string) => void): PortSpec[] {
  const known = task.resources?.ports ?? [];
  const found = known.filter((port) => port.label === label);
  if (found.length === 0) {
    const labels = [...new Set(known.map((port) => port.label))];
    const there = labels.length === 0 ? 'the group has no ports' : `there are ${labels.join(', ')}`;
    complain(`no port is labelled ${JSON.stringify(label)}; ${there}`);
  }
  return found.map(({ hostIp, value, to }) => {
    // No `to`, or -1: the guest listens on the very port that was given out.
    const guestPort = to > 0 ? to : value;
    if (!isPort(value) || !isPort(guestPort)) complain(`${value} to ${to} are not ports`);
    return { label, hostIp, hostPort: value, guestPort };
  });
}

function isPort(value: number): boolean {
  return value > 0 && value < 65_536;
}

/** As Nomad shows the same directories to tasks with a file system of their own. */
function sharesOf(allocDir: string, taskDir: string): readonly ShareSpec[] {
  return [
    { tag: 'allocDir', source: `${allocDir}/alloc`, target: '/alloc', readOnly: true },
    { tag: 'localDir', source: `${taskDir}/local`, target: '/local', readOnly: true },
    { tag: 'secretsDir', source: `${taskDir}/secrets`, target: '/secrets', readOnly: true },
  ];
}

function readHostname(raw: Raw, name: string, complain: Complain): string {
  const hostname = raw.hostname || `nomad-${name}`.slice(0, 63);
  if (!/^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$/.test(hostname)) {
    complain(
      'hostname',
      `${JSON.stringify(hostname)} must consist of letters, digits and dashes, start and end with a letter or digit, and be less than 64 characters long`,
    );
  }
  return hostname;
}

/** Text that no path looks like is the user data itself. */
function readUserData(text: string | undefined): UserData | undefined {
  if (!text) return undefined;
  const inline =
    text.startsWith('#') || text.includes('\n') || /^(content-type|mime-version):/i.test(text);
  return inline ? { kind: 'inline', text } : { kind: 'file', path: text };
}

function readTimezone(raw: Raw, complain: Complain): string | undefined {
  const timezone = raw.timezone || undefined;
  if (timezone !== undefined && !isTimeZone(timezone)) {
    complain(
      'timezone',
      `${JSON.stringify(timezone)} is not a name from the tz database, such as "Europe/Berlin"`,
    );
  }
  return timezone;
}
