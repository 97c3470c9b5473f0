import { constants, readFileSync, statSync } from 'node:fs';
import { machine } from 'node:os';
import {
  closeFd,
  findByMark,
  HostError,
  identify,
  isAlive,
  kill,
  limitProcess,
  type MarkedProcess,
  memfd,
  openPath,
  type ProcessIdentity,
  pause,
  type SpawnedProcess,
  spawnDetached,
  within,
} from '#host';
import type { Waiting } from '#spec';
import type { Emulator } from './emulator.ts';
import { guestWord, testGuest } from './kvm-guest.ts';

const kvmDevice = '/dev/kvm';

export interface KvmVerdict {
  readonly usable: boolean;
  /** For the operator: what KVM did, or what is in its way. */
  readonly reason: string;
  /** The host may just have been busy: worth another try after a while. */
  readonly doubtful?: boolean;
}

/** Whose rights to probe with: those a VM will have. Left out: this process's own. */
export interface ProbeUser {
  readonly uid: number;
  readonly gid: number;
}

const guestMs = 3_000;
const killMs = 5_000;
const pollMs = 10;
const cpuSeconds = 5;
const markPrefix = 'nomad-driver-qmp-kvm-probe';

/** How long a doubtful answer stands; shorter, and a host where KVM hangs would be probed all the time. */
const doubtMs = 5 * 60_000;

const verdicts = new Map<string, Promise<KvmVerdict>>();

/**
 * Whether guests really run under KVM here: a device that opens proves nothing, so a small guest is run with it. Takes
 * up to 3 s where they don't. The answer is remembered for as long as the device stays as it is, for some minutes only
 * when it is in doubt. Rejects only when the signal aborts.
 */
export async function probeKvm(
  emulator: Emulator,
  waiting: Waiting,
  user?: ProbeUser,
): Promise<KvmVerdict> {
  const key = `${emulator.path} ${user?.uid} ${user?.gid} ${deviceState()}`;
  const others = verdicts.get(key);
  if (others !== undefined) {
    // Whoever asked first may have given up, which says nothing about KVM.
    return await others.catch(() => probeKvm(emulator, waiting, user));
  }
  const verdict = probe(emulator, waiting, user);
  verdicts.set(key, verdict);
  verdict.then(
    ({ doubtful = false }) => {
      if (doubtful) setTimeout(() => verdicts.delete(key), doubtMs).unref();
    },
    () => verdicts.delete(key),
  );
  return await verdict;
}

/** Changes when somebody loads the module or alters the rights. */
function deviceState(): string {
  const stats = statSync(kvmDevice, { throwIfNoEntry: false });
  return stats === undefined ? 'none' : `${stats.rdev} ${stats.mode} ${stats.uid} ${stats.gid}`;
}

async function probe(emulator: Emulator, waiting: Waiting, user?: ProbeUser): Promise<KvmVerdict> {
  const hostArch = machine();
  if (hostArch !== emulator.arch) {
    return no(`KVM runs guests of the host's own architecture, ${hostArch}, only`);
  }
  const obstacle = deviceObstacle();
  if (obstacle !== undefined) return no(obstacle);
  try {
    return judge(await runGuest(emulator, ['-accel', 'kvm', '-cpu', 'host'], waiting, user));
  } catch (error) {
    waiting.signal.throwIfAborted();
    if (error instanceof HostError) {
      return doubt(`the KVM test guest could not be run: ${error.message}`);
    }
    throw error;
  }
}

function no(reason: string): KvmVerdict {
  return { usable: false, reason };
}

function doubt(reason: string): KvmVerdict {
  return { usable: false, reason, doubtful: true };
}

function deviceObstacle(): string | undefined {
  try {
    closeFd(openPath(kvmDevice, constants.O_RDWR));
    return undefined;
  } catch (error) {
    const errno = error instanceof HostError ? (error.errno ?? '') : '';
    return obstacles[errno] ?? `/dev/kvm cannot be opened: ${errno}`;
  }
}

const obstacles: Readonly<Record<string, string>> = {
  ENOENT: 'there is no /dev/kvm: the KVM kernel module is not loaded',
  ENODEV:
    '/dev/kvm has no driver: virtualization is off in the firmware, or this is a VM without it',
  EACCES: 'no permission to open /dev/kvm',
  EPERM: 'no permission to open /dev/kvm',
};

/** How a run of the test guest went. */
export interface GuestRun {
  readonly end: 'exit' | 'kvm-error' | 'deadline';
  readonly code: number | null;
  readonly signal: string | null;
  /** What the guest said on its serial port. */
  readonly serial: string;
  /** What QEMU said on stderr. */
  readonly messages: string;
}

/** What a run means. */
export function judge(run: GuestRun): KvmVerdict {
  if (run.serial.includes(guestWord)) return { usable: true, reason: 'a test guest ran under KVM' };
  if (run.end === 'kvm-error') {
    return no(
      'KVM gave up on a test guest ("KVM internal error"): nested virtualization is incomplete',
    );
  }
  if (run.end === 'deadline') {
    return doubt(`a test guest did not come up under KVM within ${guestMs / 1000} s`);
  }
  const words = run.messages.split('\n').find((line) => /\S/.test(line));
  const said = words === undefined ? '' : `: ${words.replace(/^\S*qemu\S*: /, '').trim()}`;
  const how = run.signal === null ? `exited with ${run.code}` : `was ended by ${run.signal}`;
  return no(`KVM opens, but QEMU ${how} before a test guest ran${said}`);
}

/** Runs the test guest with these accelerator arguments and leaves no process behind. */
export async function runGuest(
  emulator: Emulator,
  accelerator: readonly string[],
  waiting: Waiting,
  user?: ProbeUser,
): Promise<GuestRun> {
  await sweep(user, waiting);
  const disk = memfd('kvm-probe-disk', testGuest(emulator.arch).image());
  const serial = memfd('kvm-probe-serial', new Uint8Array());
  const messages = memfd('kvm-probe-messages', new Uint8Array());
  try {
    const qemu = await spawnDetached({
      program: emulator.path,
      args: [...guestArguments(emulator), ...accelerator],
      stdio: ['ignore', serial, messages, disk],
      ...user,
    });
    try {
      boundCpuTime(qemu.identity.pid);
      return await watch(qemu, serial, messages, waiting);
    } finally {
      await kill(qemu.identity, within(killMs));
    }
  } finally {
    for (const fd of [disk, serial, messages]) closeFd(fd);
  }
}

/** Should we be killed now, a runaway guest must not burn a core until the next probe finds it. */
function boundCpuTime(pid: number): void {
  try {
    limitProcess(pid, { cpuSeconds });
  } catch (error) {
    // ESRCH: it has ended. EPERM: another user's process, and we may not; the sweep is left.
    const errno = error instanceof HostError ? error.errno : undefined;
    if (errno !== 'ESRCH' && errno !== 'EPERM') throw error;
  }
}

function guestArguments(emulator: Emulator): readonly string[] {
  const guest = testGuest(emulator.arch);
  const own = identify(process.pid);
  return [
    ['-name', `${markPrefix}-${own?.pid}-${own?.startTicks}`],
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ['-machine', `${emulator.defaultMachine}${guest.machineOptions}`, '-m', '64'],
    ['-chardev', 'stdio,id=serial,signal=off', '-serial', 'chardev:serial'],
    guest.arguments(3),
  ].flat();
}

async function watch(
  qemu: SpawnedProcess,
  serial: number,
  messages: number,
  waiting: Waiting,
): Promise<GuestRun> {
  const read = (fd: number): string => readFileSync(`/proc/self/fd/${fd}`, 'latin1');
  let exit: Awaited<SpawnedProcess['exit']> | undefined;
  const ended = qemu.exit.then((it) => {
    exit = it;
  });
  const report = (end: GuestRun['end']): GuestRun => ({
    end,
    code: exit?.code ?? null,
    signal: exit?.signal ?? null,
    serial: read(serial),
    messages: read(messages),
  });
  const deadline = performance.now() + guestMs;
  while (exit === undefined) {
    // After a "KVM internal error" the machine stands still and QEMU would stay.
    if (read(messages).includes('KVM internal error')) return report('kvm-error');
    if (performance.now() > deadline) return report('deadline');
    await Promise.race([ended, pause(pollMs, waiting)]);
  }
  return report('exit');
}

/** Ends test guests whose maker was killed before it could. */
async function sweep(user: ProbeUser | undefined, waiting: Waiting): Promise<void> {
  for (const guest of await findByMark(markPrefix, user === undefined ? [] : [user.uid], waiting)) {
    const maker = makerOf(guest);
    if (maker !== undefined && !isAlive(maker)) await kill(guest, waiting);
  }
}

/** undefined for what is no test guest: a task may be named like one, and a pager may show its log. */
function makerOf({ args, bootId }: MarkedProcess): ProcessIdentity | undefined {
  const name = args[args.indexOf('-name') + 1] ?? '';
  const [, pid, startTicks] = new RegExp(`^${markPrefix}-(\\d+)-(\\d+)$`).exec(name) ?? [];
  return startTicks === undefined ? undefined : { pid: Number(pid), startTicks, bootId };
}
