import type { QmpClient } from '#qmp';

/** How long each rung of the stop ladder may take; together they fill the job's kill_timeout. */
export interface StopTimes {
  /** For the guest to power itself off. */
  readonly politeMs: number;
  /** For QEMU to end after `quit`, and again after SIGTERM; then comes SIGKILL. */
  readonly rungMs: number;
}

/** Splits a grace period: most of it is the guest's, the end of it is for QEMU, so that the whole stays inside. */
export function stopTimes(graceMs: number): StopTimes {
  const forceMs = Math.min(1000, graceMs * 0.3);
  return { politeMs: Math.max(0, graceMs - forceMs), rungMs: forceMs / 2 };
}

/** What the ladder needs of a VM. */
export interface Stoppable {
  readonly qmp: QmpClient | undefined;
  /** Settles when the VM has ended. */
  readonly ended: Promise<unknown>;
  terminate(): void;
  tell(message: string): void;
}

const statusMs = 1000;

/** Presses of the power button: at once, again soon for guests that missed the first, then now and then. */
const pressAgainMs = [500, 2500, 5000];

/**
 * Asks the guest, then QEMU, then QEMU's process to end, each for its time. Returns when the VM has ended or when
 * nothing is left but SIGKILL: true means it has ended.
 */
export async function climbDown(vm: Stoppable, times: StopTimes): Promise<boolean> {
  if (await askGuest(vm, times.politeMs)) return true;
  vm.tell('Guest did not power off in time; ending QEMU');
  await send(vm.qmp, 'quit', times.rungMs);
  if (await endsWithin(vm.ended, times.rungMs)) return true;
  vm.terminate();
  return endsWithin(vm.ended, times.rungMs);
}

async function askGuest(vm: Stoppable, politeMs: number): Promise<boolean> {
  if (vm.qmp === undefined || politeMs <= 0) return endsWithin(vm.ended, 0);
  const until = performance.now() + politeMs;
  vm.tell('ACPI power button pressed');
  // A paused guest would never see the button, and whether it is paused only QEMU knows for sure.
  if (await isPaused(vm.qmp, politeMs)) await send(vm.qmp, 'cont', politeMs);
  for (let press = 0; ; press += 1) {
    const left = until - performance.now();
    if (left <= 0) return false;
    await send(vm.qmp, 'system_powerdown', left);
    const pause = pressAgainMs[Math.min(press, pressAgainMs.length - 1)] ?? 5000;
    const wait = Math.min(pause, until - performance.now());
    if (await endsWithin(vm.ended, wait)) return true;
  }
}

async function isPaused(qmp: QmpClient, limitMs: number): Promise<boolean> {
  try {
    const waiting = { signal: AbortSignal.timeout(Math.min(statusMs, Math.ceil(limitMs))) };
    return !(await qmp.execute('query-status', {}, waiting)).running;
  } catch {
    return false;
  }
}

/** A command whose answer does not matter: the guest or QEMU may be gone before it comes. */
async function send(
  qmp: QmpClient | undefined,
  command: 'cont' | 'quit' | 'system_powerdown',
  limitMs: number,
): Promise<void> {
  if (qmp === undefined) return;
  try {
    await qmp.execute(
      command,
      {},
      { signal: AbortSignal.timeout(Math.max(1, Math.ceil(limitMs))) },
    );
  } catch {
    // Closed, hung or refused: the next rung follows.
  }
}

async function endsWithin(ended: Promise<unknown>, limitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.max(0, limitMs));
  });
  try {
    return await Promise.race([ended.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
