import type { Arch, ShareSpec, VmSpec } from '#spec';
import { qemuArguments } from './argv.ts';
import { VmError } from './error.ts';
import { uuidOf, type VmPaths } from './paths.ts';

/**
 * A descriptor that QEMU inherits, by its role. The plan's list gives their order: the first is number 3 in QEMU.
 * `disk-read` is the task's disk opened read-only; `stdout` and `stderr` are Nomad's log pipes, held and never used, so
 * that their readers meet no end of the log while the VM lives.
 */
export type Descriptor =
  | 'qmp'
  | 'agent'
  | 'console'
  | 'stdout'
  | 'stderr'
  | 'disk'
  | 'disk-read'
  | 'base'
  | 'seed'
  | 'firmware-code'
  | 'firmware-vars'
  | `tap${number}`
  | `share${number}`;

export type MachineFamily = 'q35' | 'pc' | 'virt';

export interface MachinePlan {
  /** Versioned where QEMU has a versioned name, e.g. `pc-q35-7.2`. */
  readonly type: string;
  readonly family: MachineFamily;
  readonly accelerator: 'kvm' | 'tcg';
  readonly cpu: string;
  /** Size of TCG's code cache; QEMU's own default is up to 1 GiB a VM. */
  readonly tbSizeMiB: number;
}

export type FirmwarePlan =
  | { readonly kind: 'bios' }
  | { readonly kind: 'uefi'; readonly codePath: string; readonly varsTemplate: string };

export interface NicPlan {
  readonly mac: string;
  readonly mtu: number | undefined;
}

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

/** What the host has for this VM, found out before anything is decided. */
export interface PlanFacts {
  readonly emulator: {
    readonly arch: Arch;
    readonly path: string;
    readonly machines: readonly string[];
    readonly defaultMachine: string;
  };
  readonly kvm: boolean;
  readonly image: { readonly format: 'raw' | 'qcow2'; readonly virtualBytes: number };
  readonly firmware: FirmwarePlan;
  readonly nics: readonly NicPlan[];
  readonly shares: readonly SharePlan[];
}

export interface VmPlan {
  readonly name: string;
  readonly uuid: string;
  readonly paths: VmPaths;
  readonly program: string;
  readonly argv: readonly string[];
  readonly descriptors: readonly Descriptor[];
  readonly machine: MachinePlan;
  readonly firmware: FirmwarePlan;
  readonly disk: DiskPlan;
  /** Guest RAM and what QEMU itself needs beside it: the cgroup's limit. */
  readonly memoryLimitBytes: number;
}

const MiB = 1024 * 1024;

/** What QEMU needs beside guest RAM: its own heap, device buffers, page tables, and a share that grows with the guest. */
const overheadMiB = 192;
const overheadShare = 0.02;

/** Console history that may wait for its reader while the plugin is away; beyond it the newest output is lost. */
export const consoleHistoryBytes = MiB;

/** Decides everything about a VM. Throws VmError 'spec' or 'image' where what was asked for can't be had. */
export function planVm(spec: VmSpec, facts: PlanFacts, paths: VmPaths): VmPlan {
  const machine = planMachine(spec, facts);
  const disk = planDisk(spec, facts, paths);
  const descriptors = planDescriptors(disk, facts);
  const uuid = uuidOf(paths.dir);
  return {
    name: spec.name,
    uuid,
    paths,
    program: facts.emulator.path,
    argv: qemuArguments({
      name: spec.name,
      uuid,
      allocId: spec.identity.allocId,
      machine,
      vcpus: spec.vcpus,
      memoryMiB: spec.memoryMiB,
      firmware: facts.firmware,
      disk,
      nics: facts.nics,
      shares: facts.shares,
      descriptors,
    }),
    descriptors,
    machine,
    firmware: facts.firmware,
    disk,
    memoryLimitBytes: memoryLimit(spec.memoryMiB, machine),
  };
}

/** What planVm would refuse, as far as it can be told before anything is made: every problem, [] when there is none. */
export function planProblems(
  spec: VmSpec,
  facts: MachineFacts & { readonly image: PlanFacts['image'] | undefined },
): readonly VmError[] {
  const { image } = facts;
  const decisions = [
    () => planAccelerator(spec, facts),
    () => machineType(spec, facts.emulator),
    () => (image === undefined ? undefined : checkSize(spec, image)),
  ];
  return decisions.flatMap((decide) => {
    try {
      decide();
      return [];
    } catch (error) {
      if (error instanceof VmError) return [error];
      throw error;
    }
  });
}

type MachineFacts = Pick<PlanFacts, 'emulator' | 'kvm'>;

function planAccelerator(spec: VmSpec, { kvm }: MachineFacts): 'kvm' | 'tcg' {
  if (spec.accelerator === 'kvm' && !kvm) {
    throw new VmError(
      'spec',
      'accelerator "kvm" was asked for, but KVM does not work on this host; the node attribute emulator.kvm.reason says why',
      // It is probed again after a while, and on another host it may work.
      { recoverable: true },
    );
  }
  return spec.accelerator !== 'tcg' && kvm ? 'kvm' : 'tcg';
}

function planMachine(spec: VmSpec, facts: MachineFacts): MachinePlan {
  const { emulator } = facts;
  const accelerator = planAccelerator(spec, facts);
  const type = machineType(spec, emulator);
  return {
    type,
    family: machineFamily(type, emulator.defaultMachine),
    accelerator,
    // TCG's `max` has what current distributions ask of a processor (x86-64-v2 and up); QEMU's default has not.
    cpu: accelerator === 'kvm' ? 'host' : 'max',
    tbSizeMiB: Math.min(128, Math.max(32, Math.floor(spec.memoryMiB / 4))),
  };
}

function machineType({ machine }: VmSpec, emulator: PlanFacts['emulator']): string {
  const family = emulator.arch === 'x86_64' ? 'q35' : 'virt';
  if (machine === undefined || machine === family) return emulator.defaultMachine;
  const versioned = newestOf(machine, emulator.machines);
  if (versioned !== undefined && isSupported(versioned)) return versioned;
  const supported = emulator.machines.filter(isSupported);
  throw new VmError(
    'spec',
    `os.machine "${machine}" is not one that can be had here with ${emulator.path}; supported: ${supported.join(', ')}`,
  );
}

/** `pc` means the newest versioned pc machine: the handle must name the same machine after an upgrade of QEMU. */
function newestOf(machine: string, machines: readonly string[]): string | undefined {
  if (machine === 'pc') {
    const order = new Intl.Collator('en', { numeric: true });
    return machines
      .filter((it) => it.startsWith('pc-i440fx-'))
      .sort(order.compare)
      .at(-1);
  }
  return machines.includes(machine) ? machine : undefined;
}

function isSupported(machine: string): boolean {
  return /^(q35|pc|pc-q35-.+|pc-i440fx-.+|virt|virt-.+)$/.test(machine);
}

function machineFamily(type: string, fallback: string): MachineFamily {
  const name = type === '' ? fallback : type;
  if (/q35/.test(name)) return 'q35';
  return /^virt/.test(name) ? 'virt' : 'pc';
}

/** The disk's size in bytes. */
function checkSize({ disk }: VmSpec, image: PlanFacts['image']): number {
  const wanted = disk.sizeMiB * MiB;
  if (wanted < image.virtualBytes) {
    throw new VmError(
      'image',
      `primary_disk_size ${disk.sizeMiB} MiB is smaller than the image ${disk.image}, which has ${Math.ceil(image.virtualBytes / MiB)} MiB`,
    );
  }
  return wanted;
}

function planDisk(spec: VmSpec, { image }: PlanFacts, paths: VmPaths): DiskPlan {
  const { disk } = spec;
  const wanted = checkSize(spec, image);
  const common = { path: paths.disk, virtualBytes: wanted };
  return disk.thin
    ? { ...common, kind: 'overlay', format: 'qcow2', base: image.format, growBeforeBoot: false }
    : {
        ...common,
        kind: 'copy',
        format: image.format,
        base: undefined,
        growBeforeBoot: image.format === 'qcow2' && wanted > image.virtualBytes,
      };
}

function planDescriptors(
  disk: DiskPlan,
  { nics, shares, firmware }: PlanFacts,
): readonly Descriptor[] {
  return [
    'qmp',
    'agent',
    'console',
    'stdout',
    'stderr',
    'disk',
    'disk-read',
    ...(disk.base === undefined ? [] : (['base'] as const)),
    'seed',
    ...(firmware.kind === 'uefi' ? (['firmware-code', 'firmware-vars'] as const) : []),
    ...nics.map((_, index): Descriptor => `tap${index}`),
    ...shares.flatMap((it, index): Descriptor[] =>
      it.type === 'virtiofs' ? [`share${index}`] : [],
    ),
  ];
}

function memoryLimit(memoryMiB: number, machine: MachinePlan): number {
  const codeCache = machine.accelerator === 'tcg' ? machine.tbSizeMiB : 0;
  return Math.ceil(memoryMiB * (1 + overheadShare) + overheadMiB + codeCache) * MiB;
}
