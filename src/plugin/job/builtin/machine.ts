import { type DisplaySpec, type KernelSpec, listed, quoted, type VmSpec } from '#spec';
import { emulatorArch } from '../../agent/builtin-lists.ts';
import { otherFirmware } from '../../args/firmware-options.ts';
import type { Decoded } from '../../hcl/schema.ts';
import type { guestFields } from '../guest.ts';
import type { Job } from '../job.ts';
import type { machineFields } from '../machine.ts';
import { groupNetns } from '../nics/group.ts';
import { argKey, type Wishes } from './args.ts';
import type { builtinFields } from './fields.ts';

type GuestKeys = Pick<Decoded<typeof guestFields>, 'user_data'>;
type MachineKeys = Pick<Decoded<typeof machineFields>, 'os' | 'accelerator' | 'vcpus' | 'firmware'>;
type Raw = Omit<MachineKeys, 'accelerator'> &
  GuestKeys &
  Pick<Decoded<typeof builtinFields>, 'accelerator' | 'emulator' | 'machine_type'>;

const loopback = '127.0.0.1';

const machines = { x86_64: 'pc', aarch64: 'virt' } as const;

/** The machine in the keys of this driver; an option in `args` comes after the key, so it wins. */
export function readMachineKeys(raw: Raw, wishes: Wishes, job: Job): MachineKeys & GuestKeys {
  const arch = readEmulator(raw, job);
  const machine =
    wishes.last('machine')?.machine || raw.machine_type || raw.os?.machine || machines[arch];
  // As the builtin driver hands it to QEMU: a list of which the first that works is taken.
  const accelerator = raw.accelerator === 'kvm:tcg' ? 'auto' : (raw.accelerator ?? 'tcg');
  return {
    os: { arch, machine },
    accelerator: readAccelerator(wishes) ?? accelerator,
    vcpus: wishes.last('vcpus')?.count ?? raw.vcpus,
    firmware: readFirmware(raw, wishes, job),
    user_data: readIgnition(raw, wishes, job),
  };
}

/** `-accel kvm -accel tcg` is KVM where it works; of all others the last wins. */
function readAccelerator(wishes: Wishes): VmSpec['accelerator'] | undefined {
  const all = wishes.all('accelerator');
  const last = all.at(-1);
  if (!last?.isAlternative) return last?.accelerator;
  const tried = all.filter((wish) => wish.isAlternative).map(({ accelerator }) => accelerator);
  return tried[0] === 'kvm' && tried.includes('tcg') ? 'auto' : tried[0];
}

function readFirmware(
  { firmware }: Pick<MachineKeys, 'firmware'>,
  wishes: Wishes,
  { report }: Job,
): MachineKeys['firmware'] {
  if (wishes.has('uefi')) return 'uefi';
  if (firmware === 'uefi') return firmware;
  for (const { at, file } of wishes.all('uefi-variables')) report(argKey(at), otherFirmware(file));
  return firmware;
}

function readIgnition(
  { user_data }: GuestKeys,
  wishes: Wishes,
  { report }: Job,
): string | undefined {
  const wish = wishes.last('ignition');
  if (wish === undefined) return user_data;
  if (user_data) report(argKey(wish.at), '-fw_cfg can not be used together with user_data');
  return wish.userData;
}

function readEmulator({ emulator, os }: Raw, { builtin, report }: Job): VmSpec['arch'] {
  const arch = emulatorArch(emulator);
  const allowed = builtin?.emulators ?? [];
  if (allowed.length > 0 && !allowed.includes(arch)) {
    report('emulator', `${quoted(emulator)} is not an allowed emulator: ${listed(allowed)}`);
  }
  if (os?.arch) report('os.arch', 'is `emulator` in this job; leave it out');
  if (arch === 'x86_64' || arch === 'aarch64') return arch;
  report('emulator', `${quoted(emulator)} is not supported; supported are x86_64 and aarch64`);
  return 'x86_64';
}

type Settings = Partial<
  Pick<
    VmSpec,
    'memoryMiB' | 'clock' | 'smbios' | 'kernel' | 'watchdog' | 'display' | 'endsAtReset' | 'notes'
  >
>;

/** What of the machine is no key of this driver's own jobs, or may stand in `args` as well. */
export function readSettings(wishes: Wishes, job: Job): Settings {
  const memory = readMemory(wishes, job);
  const clock = wishes.last('clock')?.base;
  const smbios = wishes.last('smbios')?.fields;
  const watchdogs = wishes.all('watchdog');
  const action = watchdogs.findLast((wish) => wish.action !== undefined)?.action ?? 'reset';
  // An action alone is no watchdog.
  const watchdog = watchdogs.some((wish) => wish.action === undefined) ? { action } : undefined;
  const display = readScreen(wishes, job);
  const kernel = readKernel(wishes, job);
  const notes = [
    ...(memory.notes ?? []),
    ...variablesNotes(wishes),
    ...(display?.vnc === undefined ? [] : screenNotes(wishes, job)),
  ];
  return {
    ...(display === undefined ? {} : { display }),
    ...memory,
    ...(notes.length === 0 ? {} : { notes }),
    ...(wishes.has('no-reboot') ? { endsAtReset: true } : {}),
    ...(clock === undefined ? {} : { clock }),
    ...(smbios === undefined ? {} : { smbios }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(watchdog === undefined ? {} : { watchdog }),
  };
}

function readKernel(wishes: Wishes, { report }: Job): KernelSpec | undefined {
  const kernel = wishes.last('kernel')?.file;
  const initrd = wishes.last('initrd');
  const append = wishes.last('append');
  if (kernel !== undefined) {
    return { kernel, ...(initrd && { initrd: initrd.file }), commandLine: append?.text ?? '' };
  }
  for (const wish of [initrd, append]) {
    if (wish !== undefined) report(argKey(wish.at), `-${wish.kind} needs -kernel`);
  }
  return undefined;
}

/** A guest with more memory than its task has would take it from others. */
function readMemory(wishes: Wishes, { task }: Job): Pick<Settings, 'memoryMiB' | 'notes'> {
  const wish = wishes.last('memory');
  if (wish === undefined) return {};
  const { memoryMb = 0n, memoryMaxMb = 0n } = task.resources?.allocatedResources?.memory ?? {};
  const maxMiB = Math.max(Number(memoryMb), Number(memoryMaxMb));
  if (wish.memoryMiB <= maxMiB) return { memoryMiB: wish.memoryMiB };
  const text = `The guest has ${maxMiB} MiB, the memory of its task, and not the ${wish.memoryMiB} of -m: write memory = ${wish.memoryMiB} in resources`;
  return { memoryMiB: maxMiB, notes: [text] };
}

/** What the guest wrote into them is not there at its next start. */
function variablesNotes(wishes: Wishes): readonly string[] {
  return wishes
    .all('uefi-variables')
    .map(
      ({ file }) =>
        `The UEFI variables of ${quoted(file)} are not used: the guest's begin as the host's at every start`,
    );
}

/** Without a password the screen is for the host itself only, whatever address the job names. */
function readScreen(wishes: Wishes, { task }: Job): DisplaySpec | undefined {
  const vnc = wishes.last('vnc');
  const video = wishes.last('video')?.video ?? 'std';
  if (vnc === undefined || video === 'none') return undefined;
  const { port } = vnc;
  const label = task.resources?.ports.find(({ value }) => value === port)?.label;
  if (port === undefined) return { video, vnc: { listen: [] } };
  const netns = groupNetns(task);
  // QEMU of the builtin driver runs in the network of the group, where other tasks reach its loopback.
  const inGroup = netns === undefined ? undefined : { netns, port, address: loopback };
  const own = { label: label ?? `port-${port}`, hostIp: loopback, hostPort: port };
  return { video, vnc: { listen: [{ ...own, ...(inGroup && { inGroup }) }] } };
}

/** The screen of a job that wrote another address is looked for there. */
function screenNotes(wishes: Wishes, { task }: Job): readonly string[] {
  const { port, wasOpen = false } = wishes.last('vnc') ?? {};
  if (!wasOpen) return [];
  const reached = groupNetns(task) === undefined ? 'this host' : 'the tasks of this group';
  return [
    `The screen is for ${reached} only, by VNC at ${loopback}:${port}, because -vnc has no password: display { vnc { port, password } } is for others`,
  ];
}
