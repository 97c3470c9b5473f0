import type { AcceleratorChoice } from '#spec';
import type { Emulator } from './emulator.ts';
import { QemuError } from './error.ts';
import type { KvmVerdict } from './kvm/probe.ts';

/**
 * `max` has what current distributions require of a CPU (x86-64-v2 and up); QEMU's default does not. Without what TCG is slow
 * at: copies byte by byte, which kernels and libraries prefer where these two names stand, and tables of five levels; pointer
 * authentication by the architecture's own algorithm.
 */
const tcgCpu = {
  x86_64: 'max,erms=off,fsrm=off,la57=off',
  aarch64: 'max,pauth-impdef=on',
} as const;

const byVersion = new Intl.Collator('en', { numeric: true });

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

/** The part of an emulator that machines are planned with. */
export type MachineFacts = Pick<
  Emulator,
  'arch' | 'path' | 'machines' | 'defaultMachine' | 'maxVcpus'
>;

export interface MachineRequest {
  /** As written in the job; undefined is the architecture's default. */
  readonly machine: string | undefined;
  readonly accelerator: AcceleratorChoice;
  readonly memoryMiB: number;
  readonly vcpus: number;
}

/**
 * Decides machine type, accelerator and CPU. Throws QemuError where the emulator or the host does not have what the
 * job needs.
 */
export function planMachine(
  request: MachineRequest,
  emulator: MachineFacts,
  kvm: KvmVerdict,
): MachinePlan {
  const accelerator = planAccelerator(request, kvm);
  const type = machineType(request, emulator);
  checkVcpus(request, emulator);
  return {
    type,
    family: machineFamily(type),
    accelerator,
    cpu: accelerator === 'kvm' ? 'host' : tcgCpu[emulator.arch],
    tbSizeMiB: Math.min(128, Math.max(32, Math.floor(request.memoryMiB / 4))),
  };
}

/** Every error that planMachine could throw; [] when there is none. */
export function machineProblems(
  request: MachineRequest,
  emulator: MachineFacts,
  kvm: KvmVerdict,
): readonly QemuError[] {
  const decisions = [
    () => planAccelerator(request, kvm),
    () => machineType(request, emulator),
    () => checkVcpus(request, emulator),
  ];
  return decisions.flatMap((decide) => {
    try {
      decide();
      return [];
    } catch (error) {
      if (error instanceof QemuError) return [error];
      throw error;
    }
  });
}

function planAccelerator({ accelerator }: MachineRequest, kvm: KvmVerdict): 'kvm' | 'tcg' {
  if (accelerator === 'kvm' && !kvm.usable) {
    throw new QemuError('unavailable', `accelerator "kvm" is not available: ${kvm.reason}`);
  }
  return accelerator !== 'tcg' && kvm.usable ? 'kvm' : 'tcg';
}

function machineType({ machine }: MachineRequest, emulator: MachineFacts): string {
  const family = emulator.arch === 'x86_64' ? 'q35' : 'virt';
  if (machine === undefined || machine === family) return emulator.defaultMachine;
  const versioned = newestOf(machine, emulator.machines);
  if (versioned !== undefined && isSupported(versioned)) return versioned;
  const supported = rangesOf(emulator.machines.filter(isSupported));
  throw new QemuError(
    'unsupported',
    `os.machine "${machine}" is not available in ${emulator.path}; supported: ${supported.join(', ')}`,
  );
}

/** Of each type there are dozens of versions. */
function rangesOf(machines: readonly string[]): readonly string[] {
  const types = Map.groupBy(machines, (machine) => machine.replace(/-[\d.]+$/, ''));
  return [...types.values()].flatMap((versions) => {
    if (versions.length < 3) return versions;
    const sorted = versions.toSorted(byVersion.compare);
    return [`${sorted.at(-1)} to ${sorted[0]}`];
  });
}

/** Of a machine that is not available there is no maximum either. */
function checkVcpus(request: MachineRequest, emulator: MachineFacts): void {
  const { machine, vcpus } = request;
  const type =
    machine === undefined ? emulator.defaultMachine : newestOf(machine, emulator.machines);
  const max = emulator.maxVcpus.get(type ?? '');
  if (max === undefined || vcpus <= max) return;
  throw new QemuError(
    'unsupported',
    `vcpus: ${vcpus} are more than the ${max} that the machine type ${type} has`,
  );
}

/** `pc` means the newest versioned pc machine: the record must name the same machine after an upgrade of QEMU. */
function newestOf(machine: string, machines: readonly string[]): string | undefined {
  if (machine === 'pc') {
    return machines
      .filter((name) => name.startsWith('pc-i440fx-'))
      .sort(byVersion.compare)
      .at(-1);
  }
  return machines.includes(machine) ? machine : undefined;
}

function isSupported(machine: string): boolean {
  return /^(q35|pc|pc-q35-.+|pc-i440fx-.+|virt|virt-.+)$/.test(machine);
}

function machineFamily(type: string): MachineFamily {
  if (/q35/.test(type)) return 'q35';
  return /^virt/.test(type) ? 'virt' : 'pc';
}
