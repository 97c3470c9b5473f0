import type { Net } from '#net';
import {
  displayProblems,
  type Emulator,
  findEmulators,
  type KvmVerdict,
  type MachinePlan,
  machineProblems,
  planMachine,
  probeKvmForVms,
} from '#qemu';
import type { VmSpec, Waiting } from '#spec';
import { allowedFiles } from '../devices/allowed-files.ts';
import { bootDiskProblems, checkFirmware } from '../devices/firmware.ts';
import { type CheckedKernel, checkKernel } from '../devices/kernel.ts';
import { nicProblems } from '../devices/nics.ts';
import { type CheckedSeed, checkSeed } from '../devices/seed.ts';
import { volumeShareProblems } from '../devices/shares/volume-shares.ts';
import type { CheckedDisk } from '../disks/disk.ts';
import { checkDisk, diskPlaceProblems, sharedDiskProblems } from '../disks/disks.ts';
import { asVmError, combineErrors, VmError } from '../error.ts';
import type { VmHost } from '../vm-host.ts';

/** What the check of a job depends on beside the job. */
export interface CheckHost
  extends Pick<
    VmHost,
    'dataDir' | 'runDir' | 'imagePaths' | 'maxImageBytes' | 'pools' | 'images' | 'uidRange'
  > {
  readonly networks: Pick<Net, 'problemOf'>;
}

/** Everything that a job names, checked and found possible; nothing on the host is changed yet. */
export interface CheckedVm extends Disposable {
  readonly emulator: Emulator;
  readonly machine: MachinePlan;
  readonly disks: readonly CheckedDisk[];
  readonly seed: CheckedSeed;
  /** undefined: the guest boots from its disk. */
  readonly kernel: CheckedKernel | undefined;
}

/** Checks everything that the job names. Throws one VmError with every problem. */
export async function checkVm(spec: VmSpec, host: CheckHost, waiting: Waiting): Promise<CheckedVm> {
  const checked = await check(spec, host, waiting);
  if (Array.isArray(checked)) throw combineErrors(checked);
  return checked;
}

/** Every problem of a spec that can be found before anything is created; [] when there is none. */
export async function problemsOf(
  spec: VmSpec,
  host: CheckHost,
  waiting: Waiting,
): Promise<readonly VmError[]> {
  const checked = await check(spec, host, waiting);
  if (Array.isArray(checked)) return checked;
  checked[Symbol.dispose]();
  return [];
}

async function check(
  spec: VmSpec,
  host: CheckHost,
  waiting: Waiting,
): Promise<CheckedVm | VmError[]> {
  using opened = new DisposableStack();
  const files = allowedFiles(spec, host);
  const { maxImageBytes, pools, images } = host;
  const diskHost = { files, maxImageBytes, pools, images };
  const [accelerated, disks, seed, kernel] = await Promise.all([
    attempt(findAccelerated(spec, host, waiting)),
    Promise.all(spec.disks.map((disk) => attempt(checkDisk(disk, diskHost, waiting)))),
    attempt(checkSeed(spec, files, waiting)),
    spec.kernel === undefined ? undefined : attempt(checkKernel(spec.kernel, files, waiting)),
  ]);
  for (const disk of disks) if (!(disk instanceof VmError)) opened.use(disk);
  if (kernel !== undefined && !(kernel instanceof VmError)) opened.use(kernel);
  const found = [accelerated, ...disks, seed, kernel];
  const problems = found.filter((result) => result instanceof VmError);
  if (accelerated instanceof VmError) return problems;
  const { emulator, kvm } = accelerated;
  const checked = disks.flatMap((disk) => (disk instanceof VmError ? [] : [disk]));
  const errors = [
    ...machineErrors(spec, accelerated),
    ...sharedDiskProblems(checked),
    ...(spec.kernel === undefined ? await bootDiskProblems(primaryOf(disks)) : []),
    ...nicProblems(spec.nics, { emulator, networks: host.networks }),
    ...(await volumeShareProblems(spec.shares, emulator, waiting)),
  ];
  if (seed instanceof VmError || kernel instanceof VmError || problems.length > 0)
    return [...problems, ...errors];
  const firmware = await attempt(checkFirmware(spec, emulator, primaryOf(checked)?.image));
  if (firmware instanceof VmError) return [firmware, ...errors];
  if (errors.length > 0) return [...errors];
  const machine = planMachine(spec, emulator, kvm);
  const unplaced = diskPlaceProblems(spec.disks, machine);
  if (unplaced.length > 0) return [...unplaced];
  const owned = opened.move();
  return {
    emulator,
    machine,
    disks: checked,
    seed,
    kernel,
    [Symbol.dispose]: () => owned.dispose(),
  };
}

function primaryOf(disks: readonly (CheckedDisk | VmError)[]): CheckedDisk | undefined {
  return disks.find((disk): disk is CheckedDisk => !(disk instanceof VmError) && disk.spec.primary);
}

async function attempt<T>(result: Promise<T>): Promise<T | VmError> {
  return result.catch((error: unknown) => asVmError(error));
}

interface Accelerated {
  readonly emulator: Emulator;
  /** Whether guests run under KVM with it, and why not. */
  readonly kvm: KvmVerdict;
}

function machineErrors(spec: VmSpec, { emulator, kvm }: Accelerated): readonly VmError[] {
  return [...machineProblems(spec, emulator, kvm), ...displayProblems(spec.display, emulator)].map(
    (problem) => asVmError(problem),
  );
}

async function findAccelerated(
  { arch, accelerator }: VmSpec,
  { uidRange }: CheckHost,
  waiting: Waiting,
): Promise<Accelerated> {
  const {
    usable: [emulator],
    broken: [failed],
  } = await findEmulators(waiting, { arch });
  if (emulator === undefined) {
    const text = failed?.reason ?? `there is no qemu-system-${arch} on this host`;
    throw new VmError('host', text, { recoverable: true });
  }
  if (accelerator === 'tcg') return { emulator, kvm: { usable: false, reason: 'not wanted' } };
  return { emulator, kvm: await probeKvmForVms(emulator, uidRange, waiting) };
}
