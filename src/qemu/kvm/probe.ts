import { constants, statSync } from 'node:fs';
import { machine } from 'node:os';
import { closeFd, HostError, openPath, SharedAnswers } from '#host';
import type { Waiting } from '#spec';
import type { Emulator } from '../emulator.ts';
import { guestMessage } from './guest.ts';
import { type GuestRun, guestMs, type ProbeUser, runGuest } from './run.ts';

const kvmDevice = '/dev/kvm';

export interface KvmVerdict {
  readonly usable: boolean;
  /** For the operator: what KVM did, or why it is not usable. */
  readonly reason: string;
  /** The host may have been busy: the probe is repeated after a while. */
  readonly doubtful?: boolean;
}

/** How long a doubtful answer is kept: long enough that a host where KVM hangs is not probed all the time. */
const doubtMs = 5 * 60_000;

const verdicts = new SharedAnswers<KvmVerdict>();

/**
 * Whether guests really run under KVM here: that the device opens proves nothing, so a small guest is run with it.
 * Takes up to 3 s where they don't. The answer is cached until the device changes, or for some minutes when it is
 * doubtful. Rejects only when the signal aborts.
 */
export async function probeKvm(
  emulator: Emulator,
  waiting: Waiting,
  user?: ProbeUser,
): Promise<KvmVerdict> {
  const key = `${emulator.path} ${user?.uid} ${user?.gid}`;
  const query = async (shared: Waiting): Promise<KvmVerdict> => {
    const verdict = await probe(emulator, shared, user);
    if (verdict.doubtful) setTimeout(() => verdicts.forget(key), doubtMs).unref();
    return verdict;
  };
  return await verdicts.get({ key, state: deviceState() }, query, waiting);
}

/** Changes when the module is loaded or the permissions are changed. */
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
    '/dev/kvm has no driver: virtualization is off in the firmware, or this is a VM without nested virtualization',
  EACCES: 'no permission to open /dev/kvm',
  EPERM: 'no permission to open /dev/kvm',
};

/** What the result of a run means for KVM. */
export function judge(run: GuestRun): KvmVerdict {
  if (run.serial.includes(guestMessage))
    return { usable: true, reason: 'a test guest ran under KVM' };
  if (run.end === 'kvm-error') {
    return no(
      'KVM failed to run a test guest ("KVM internal error"): nested virtualization is incomplete',
    );
  }
  if (run.end === 'deadline') {
    return doubt(`a test guest did not come up under KVM within ${guestMs / 1000} s`);
  }
  const message = run.messages.split('\n').find((line) => /\S/.test(line));
  const reported = message === undefined ? '' : `: ${message.replace(/^\S*qemu\S*: /, '').trim()}`;
  const how = run.signal === null ? `exited with ${run.code}` : `was ended by ${run.signal}`;
  return no(`/dev/kvm opens, but QEMU ${how} before a test guest ran${reported}`);
}
