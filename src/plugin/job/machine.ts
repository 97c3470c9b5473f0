import { type Arch, quoted, type VmSpec } from '#spec';
import type { Decoded, Fields } from '../hcl/schema.ts';
import type { Job } from './job.ts';

export const machineFields = {
  accelerator: {
    kind: 'attr',
    type: 'string',
    default: 'auto',
    oneOf: ['auto', 'kvm', 'tcg'],
    doc: '`kvm` needs a host where KVM works, `tcg` is slow and works everywhere, `auto` takes KVM where it works.',
    example: '"tcg"',
  },
  firmware: {
    kind: 'attr',
    type: 'string',
    default: 'auto',
    oneOf: ['auto', 'bios', 'uefi'],
    doc: 'What the machine starts with. `auto` takes UEFI for disks that can start in no other way.',
    example: '"uefi"',
  },
  vcpus: {
    kind: 'attr',
    type: 'number',
    min: 1,
    max: 512,
    doc: 'Number of virtual CPUs, at most as many as the machine type has (288 for q35, 255 for pc). Default: as many as `resources.cores` reserves, else one.',
    example: '2',
  },
  os: {
    kind: 'block',
    doc: 'The machine to emulate. At least one of the two keys is required in the block.',
    fields: {
      arch: {
        kind: 'attr',
        type: 'string',
        doc: "Architecture: `x86_64` (or `amd64`), `aarch64` (or `arm64`). Default: the host's.",
        example: '"x86_64"',
      },
      machine: {
        kind: 'attr',
        type: 'string',
        doc: 'QEMU machine type. Default: `q35` on x86_64, `virt` on aarch64.',
        example: '"q35"',
      },
    },
  },
} as const satisfies Fields;

type Raw = Decoded<typeof machineFields>;

type Machine = Pick<
  VmSpec,
  | 'arch'
  | 'machine'
  | 'accelerator'
  | 'firmware'
  | 'vcpus'
  | 'pinnedCores'
  | 'cpuShares'
  | 'memoryMiB'
>;

/** Processors, memory and firmware: from the task's configuration and from what Nomad reserved for it. */
export function readMachine(raw: Raw, job: Job): Machine {
  const { resources } = job.task;
  const pinnedCores = readCores(job);
  return {
    arch: readArch(raw, job),
    machine: readMachineType(raw, job),
    accelerator: raw.accelerator,
    firmware: raw.firmware,
    vcpus: readVcpus(raw, pinnedCores),
    pinnedCores,
    cpuShares: Number(
      resources?.linuxResources?.cpuShares || resources?.allocatedResources?.cpu?.cpuShares || 0n,
    ),
    memoryMiB: readMemory(job),
  };
}

const archNames: Readonly<Record<string, Arch>> = {
  x86_64: 'x86_64',
  amd64: 'x86_64',
  aarch64: 'aarch64',
  arm64: 'aarch64',
};

function readArch({ os }: Raw, { hostArch, report }: Job): Arch {
  if (os !== undefined && !os.arch && !os.machine) {
    report('os', 'provided os information is incomplete: arch and machine are mandatory');
  }
  if (!os?.arch) {
    if (hostArch === undefined) report('os.arch', 'is required on a host of this architecture');
    return hostArch ?? 'x86_64';
  }
  const known = Object.hasOwn(archNames, os.arch) ? archNames[os.arch] : undefined;
  if (known !== undefined) return known;
  const shown = quoted(os.arch);
  report('os.arch', `${shown} is not supported; supported are x86_64 and aarch64`);
  return 'x86_64';
}

function readMachineType({ os }: Raw, { report }: Job): string | undefined {
  const machine = os?.machine || undefined;
  if (machine !== undefined && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(machine)) {
    report('os.machine', `${quoted(machine)} is not the name of a QEMU machine type`);
  }
  return machine;
}

/** Nomad lists cores here only when `resources.cores` reserves some. */
function readCores({ task, report }: Job): readonly number[] {
  const text = task.resources?.linuxResources?.cpusetCpus.trim() ?? '';
  const cores = new Set<number>();
  for (const part of text === '' ? [] : text.split(',')) {
    const [, first, last] = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part) ?? [];
    if (first === undefined || Number(last ?? first) < Number(first)) {
      report('resources.cores', `${quoted(text)} is not a list of cores`);
      return [];
    }
    for (let core = Number(first); core <= Number(last ?? first); core += 1) cores.add(core);
  }
  return [...cores].toSorted((a, b) => a - b);
}

/** A task with a share of the processors only has one: most jobs have no more than that. */
function readVcpus({ vcpus }: Raw, cores: readonly number[]): number {
  return vcpus ?? Math.max(1, cores.length);
}

function readMemory({ task, limits, report }: Job): number {
  const memoryMiB = Number(task.resources?.allocatedResources?.memory?.memoryMb ?? 0n);
  if (memoryMiB < limits.minMemoryMiB) {
    report(
      'resources.memory',
      `not enough memory assigned to task: ${memoryMiB} MB, at least ${limits.minMemoryMiB} are needed`,
    );
  }
  return memoryMiB;
}
