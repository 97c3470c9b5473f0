import {
  agentPort,
  type CommandLine,
  commandLine,
  disk,
  flash,
  heldFiles,
  type MachineFacts,
  type MachinePlan,
  machineProblems,
  memoryLimit,
  monitors,
  nic,
  ninePShare,
  type Part,
  type Platform,
  planMachine,
  readOnlyDisk,
  serialConsole,
  sparePorts,
  standardDevices,
  virtiofsShare,
} from '#qemu';
import type { ShareSpec, VmSpec } from '#spec';
import { asVmError, VmError } from '../error.ts';
import { planLimits, type QemuLimits } from '../live/limits.ts';
import { uuidOf, type VmPaths } from '../store/paths.ts';

export type FirmwarePlan =
  | { readonly kind: 'bios' }
  | { readonly kind: 'uefi'; readonly codePath: string; readonly varsTemplate: string };

export interface SharePlan extends ShareSpec {
  readonly type: 'virtiofs' | '9p';
  /** Where the directory is served from: a read-only bind mount when the share is read-only. */
  readonly path: string;
}

export interface DiskPlan {
  readonly kind: 'overlay' | 'copy';
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  /** Format of the overlay's base; undefined for a copy. */
  readonly base: 'raw' | 'qcow2' | undefined;
  readonly virtualBytes: number;
  /** A copied qcow2 is grown by QEMU itself before the guest runs. */
  readonly growBeforeBoot: boolean;
}

/** What the host has for this VM. */
export interface PlanFacts {
  readonly emulator: MachineFacts;
  readonly kvm: boolean;
  readonly image: {
    readonly format: 'raw' | 'qcow2';
    readonly virtualBytes: number;
    readonly fileBytes: number;
  };
  readonly firmware: FirmwarePlan;
  readonly nics: readonly { readonly mac: string; readonly mtu: number }[];
  readonly shares: readonly SharePlan[];
}

export interface VmPlan {
  readonly uuid: string;
  readonly paths: VmPaths;
  readonly program: string;
  readonly line: CommandLine;
  readonly machine: MachinePlan;
  readonly firmware: FirmwarePlan;
  readonly disk: DiskPlan;
  /** Guest RAM and what QEMU itself needs beside it: the cgroup's limit. */
  readonly memoryLimitBytes: number;
  readonly limits: QemuLimits;
}

const MiB = 1024 * 1024;

/** Console history that may wait for its reader while the plugin is away; beyond it the newest output is lost. */
export const consoleHistoryBytes = MiB;

/** Decides QEMU's command line. Throws VmError or QemuError where what was asked for can't be had. */
export function planVm(spec: VmSpec, facts: PlanFacts, paths: VmPaths): VmPlan {
  const machine = planMachine(spec, facts.emulator, facts.kvm);
  const diskPlan = planDisk(spec, facts, paths);
  const uuid = uuidOf(paths.dir);
  const { name, vcpus, memoryMiB, identity } = spec;
  const platform: Platform = { name, uuid, serial: identity.allocId, machine, vcpus, memoryMiB };
  return {
    uuid,
    paths,
    program: facts.emulator.path,
    line: commandLine(platform, parts(machine, diskPlan, facts)),
    machine,
    firmware: facts.firmware,
    disk: diskPlan,
    memoryLimitBytes: memoryLimit(platform),
    limits: planLimits(spec.vcpus, diskPlan, facts.image.fileBytes),
  };
}

function parts(machine: MachinePlan, own: DiskPlan, facts: PlanFacts): readonly Part[] {
  return [
    monitors(),
    serialConsole(machine),
    heldFiles('logs', ['stdout', 'stderr']),
    disk({
      id: 'disk',
      device: 'disk0',
      format: own.format,
      ...(own.base === undefined ? {} : { base: { id: 'base', format: own.base } }),
      bootIndex: 0,
      serial: 'primary',
    }),
    readOnlyDisk({ id: 'seed', device: 'seed0', serial: 'cidata' }),
    ...(facts.firmware.kind === 'uefi' ? [flash()] : []),
    ...facts.nics.map(({ mac, mtu }, index) => nic({ index, mac, mtu })),
    ...facts.shares.map(({ type, tag, path, readOnly }, index) =>
      type === 'virtiofs'
        ? virtiofsShare({ index, tag })
        : ninePShare({ index, tag, path, readOnly }),
    ),
    standardDevices(machine),
    agentPort(),
    sparePorts(machine),
  ];
}

/** What planVm would refuse, as far as it can be known before anything is made: every problem, [] when there is none. */
export function planProblems(
  spec: VmSpec,
  facts: Pick<PlanFacts, 'emulator' | 'kvm'> & { readonly image: PlanFacts['image'] | undefined },
): readonly VmError[] {
  const { image } = facts;
  return [
    ...machineProblems(spec, facts.emulator, facts.kvm).map(asVmError),
    ...(image === undefined ? [] : sizeProblems(spec, image)),
  ];
}

function sizeProblems({ disk }: VmSpec, image: PlanFacts['image']): readonly VmError[] {
  if (disk.sizeMiB * MiB >= image.virtualBytes) return [];
  const text = `primary_disk_size ${disk.sizeMiB} MiB is smaller than the image ${disk.image}, which has ${Math.ceil(image.virtualBytes / MiB)} MiB`;
  return [new VmError('image', text)];
}

function planDisk(spec: VmSpec, { image }: PlanFacts, paths: VmPaths): DiskPlan {
  const [problem] = sizeProblems(spec, image);
  if (problem !== undefined) throw problem;
  const { thin, sizeMiB } = spec.disk;
  const virtualBytes = sizeMiB * MiB;
  const common = { path: paths.disk, virtualBytes };
  return thin
    ? { ...common, kind: 'overlay', format: 'qcow2', base: image.format, growBeforeBoot: false }
    : {
        ...common,
        kind: 'copy',
        format: image.format,
        base: undefined,
        growBeforeBoot: image.format === 'qcow2' && virtualBytes > image.virtualBytes,
      };
}
