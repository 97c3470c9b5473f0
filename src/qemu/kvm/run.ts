import { readFileSync } from 'node:fs';
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
  type ProcessIdentity,
  pause,
  type SpawnedProcess,
  spawnDetached,
  within,
} from '#host';
import type { Waiting } from '#spec';
import type { Emulator } from '../emulator.ts';
import { testGuest } from './guest.ts';

/** The user to probe as: one with the permissions of a VM. Left out: this process's own user. */
export interface ProbeUser {
  readonly uid: number;
  readonly gid: number;
}

/** Maximum that a run of the test guest takes. */
export const guestMs = 3_000;
const killMs = 5_000;
const pollMs = 10;
const cpuSeconds = 5;
const markPrefix = 'nomad-driver-qmp-kvm-probe';

/** The result of running the test guest. */
export interface GuestRun {
  readonly end: 'exit' | 'kvm-error' | 'deadline';
  readonly code: number | null;
  readonly signal: string | null;
  /** The guest's output on its serial port. */
  readonly serial: string;
  /** QEMU's messages on stderr. */
  readonly messages: string;
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
      using limited = within(killMs);
      await kill(qemu.identity, limited);
    }
  } finally {
    for (const fd of [disk, serial, messages]) closeFd(fd);
  }
}

/** If this process is killed, a guest in an endless loop must not use a core until the next probe ends it. */
function boundCpuTime(pid: number): void {
  try {
    limitProcess(pid, { cpuSeconds });
  } catch (error) {
    // ESRCH: it has ended. EPERM: another user's process, and no permission; the next probe's sweep ends it.
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
  const ended = qemu.exit.then((result) => {
    exit = result;
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
    // After a "KVM internal error" the machine is stopped and QEMU does not exit.
    if (read(messages).includes('KVM internal error')) return report('kvm-error');
    if (performance.now() > deadline) return report('deadline');
    await Promise.race([ended, pause(pollMs, waiting)]);
  }
  return report('exit');
}

/** Ends test guests whose starter was killed before it could. */
async function sweep(user: ProbeUser | undefined, waiting: Waiting): Promise<void> {
  for (const guest of await findByMark(markPrefix, user === undefined ? [] : [user.uid], waiting)) {
    const starter = starterOf(guest);
    if (starter !== undefined && !isAlive(starter)) await kill(guest, waiting);
  }
}

/**
 * undefined when it is no test guest: other processes may have the mark in their arguments, such as a pager that shows
 * a log.
 */
function starterOf({ args, bootId }: MarkedProcess): ProcessIdentity | undefined {
  const name = args[args.indexOf('-name') + 1] ?? '';
  const [, pid, startTicks] = new RegExp(`^${markPrefix}-(\\d+)-(\\d+)$`).exec(name) ?? [];
  return startTicks === undefined ? undefined : { pid: Number(pid), startTicks, bootId };
}
