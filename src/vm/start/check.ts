import {
  type Emulator,
  findEmulators,
  type MachinePlan,
  machineProblems,
  planMachine,
  probeKvmForVms,
} from '#qemu';
import type { VmSpec, Waiting } from '#spec';
import { allowedFiles } from '../devices/allowed-files.ts';
import { type CheckedDisk, checkDisk } from '../devices/disks.ts';
import { type CheckedFirmware, checkFirmware } from '../devices/firmware.ts';
import { type CheckedSeed, checkSeed } from '../devices/seed.ts';
import { asVmError, combineErrors, VmError } from '../error.ts';
import type { VmHost } from '../vm-host.ts';

/** What the check of a job depends on beside the job. */
export type CheckHost = Pick<
  VmHost,
  'dataDir' | 'runDir' | 'imagePaths' | 'maxImageBytes' | 'uidRange'
>;

/** Everything that a job names, checked and found possible; nothing on the host is changed yet. */
export interface CheckedVm extends Disposable {
  readonly emulator: Emulator;
  readonly machine: MachinePlan;
  readonly disk: CheckedDisk;
  readonly firmware: CheckedFirmware;
  readonly seed: CheckedSeed;
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
  const files = allowedFiles(spec, host);
  const [accelerated, disk, seed] = await Promise.all([
    attempt(findAccelerated(spec, host, waiting)),
    attempt(checkDisk(spec.disk, { files, maxImageBytes: host.maxImageBytes }, waiting)),
    attempt(checkSeed(spec, files, waiting)),
  ]);
  const problems = [accelerated, disk, seed].filter((result) => result instanceof VmError);
  if (accelerated instanceof VmError || disk instanceof VmError || seed instanceof VmError) {
    if (!(disk instanceof VmError)) disk[Symbol.dispose]();
    return accelerated instanceof VmError
      ? problems
      : [...problems, ...machineErrors(spec, accelerated)];
  }
  const { emulator, kvm } = accelerated;
  const firmware = await attempt(checkFirmware(spec, emulator, disk.image));
  const machine = machineErrors(spec, accelerated);
  if (firmware instanceof VmError || machine.length > 0) {
    disk[Symbol.dispose]();
    return firmware instanceof VmError ? [firmware, ...machine] : [...machine];
  }
  return {
    emulator,
    machine: planMachine(spec, emulator, kvm),
    disk,
    firmware,
    seed,
    [Symbol.dispose]: () => disk[Symbol.dispose](),
  };
}

async function attempt<T>(result: Promise<T>): Promise<T | VmError> {
  return result.catch((error: unknown) => asVmError(error));
}

interface Accelerated {
  readonly emulator: Emulator;
  /** Whether guests run under KVM with it. */
  readonly kvm: boolean;
}

function machineErrors(spec: VmSpec, { emulator, kvm }: Accelerated): readonly VmError[] {
  return machineProblems(spec, emulator, kvm).map((problem) => asVmError(problem));
}

async function findAccelerated(
  { arch, accelerator }: VmSpec,
  { uidRange }: CheckHost,
  waiting: Waiting,
): Promise<Accelerated> {
  const { usable, broken } = await findEmulators(waiting);
  const emulator = usable.find((found) => found.arch === arch);
  if (emulator === undefined) {
    const reason = broken.find((found) => found.arch === arch)?.reason;
    const text = reason ?? `there is no qemu-system-${arch} on this host`;
    throw new VmError('host', text, { recoverable: true });
  }
  if (accelerator === 'tcg') return { emulator, kvm: false };
  const { usable: kvm } = await probeKvmForVms(emulator, uidRange, waiting);
  return { emulator, kvm };
}
