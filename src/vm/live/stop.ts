import { endsWithin, within } from '#host';
import { GuestAgent, type QmpClient } from '#qmp';
import type { Emit } from '../task-event.ts';
import { isPaused } from './monitor.ts';

/** How long each rung of the stop ladder may take; together they fill the job's kill_timeout. */
export interface StopTimes {
  /** For the guest to power itself off. */
  readonly politeMs: number;
  /** For QEMU to end after `quit`, and again after SIGTERM; then comes SIGKILL. */
  readonly rungMs: number;
}

/** Kept back for QEMU, which ends within 20 ms of `quit` on a host that is not overloaded. */
const longestForceMs = 300;

/** Splits a grace period: most of it is the guest's, the end of it is for QEMU, so that the whole stays inside. */
export function stopTimes(graceMs: number): StopTimes {
  const forceMs = Math.min(longestForceMs, graceMs * 0.3);
  return { politeMs: Math.max(0, graceMs - forceMs), rungMs: forceMs / 2 };
}

/** What the ladder needs of a VM. */
export interface Stoppable {
  /** The connection of this moment: one that broke is made again. */
  qmp(): QmpClient | undefined;
  /** Socket of the port that the guest agent listens at. */
  readonly agentPath: string;
  /** Settles when the VM has ended. */
  readonly ended: Promise<unknown>;
  terminate(): void;
  readonly emit: Emit;
}

const statusMs = 1000;
/** An agent that runs answers within milliseconds; one that hangs must not use up the button's time. */
const agentMs = 1500;
/** A guest that the agent shuts down is left in peace for so long before the button is pressed as well. */
const agentHeadStartMs = 10_000;
/** A connection that broke comes back within moments, unless somebody else has taken the monitor. */
const reconnectMs = 3000;
const connectionPollMs = 50;

/** Between looks for a connection, and then between presses: again soon for guests that missed the first one. */
const pressAgainMs = [250, 500, 2500, 5000];

/**
 * Asks the guest, then QEMU, then QEMU's process to end, each for its time. Returns when the VM has ended or when
 * nothing is left but SIGKILL: true means it has ended.
 */
export async function climbDown(vm: Stoppable, times: StopTimes): Promise<boolean> {
  if (await askGuest(vm, times.politeMs)) return true;
  vm.emit('Guest did not power off in time; ending QEMU');
  await send(vm.qmp(), 'quit', times.rungMs);
  if (await endsWithin(vm.ended, times.rungMs)) return true;
  vm.terminate();
  return endsWithin(vm.ended, times.rungMs);
}

async function askGuest(vm: Stoppable, politeMs: number): Promise<boolean> {
  const until = performance.now() + politeMs;
  const left = (): number => Math.max(0, until - performance.now());
  const qmp = await connection(vm, Math.min(reconnectMs, politeMs / 3));
  // A paused guest would never hear of it, and whether it is paused only QEMU knows for sure.
  if (qmp !== undefined && (await isPaused(qmp, within(Math.min(statusMs, left())))))
    await send(qmp, 'cont', left());
  if ((await mayAskAgent(qmp, left())) && (await askAgent(vm, left()))) {
    if (await endsWithin(vm.ended, Math.min(agentHeadStartMs, left() / 2))) return true;
  }
  return pressButton(vm, left);
}

async function pressButton(vm: Stoppable, left: () => number): Promise<boolean> {
  let presses = 0;
  while (left() > 0) {
    const qmp = vm.qmp();
    if (qmp !== undefined) {
      if (presses === 0) vm.emit('ACPI power button pressed');
      await send(qmp, 'system_powerdown', left());
      presses += 1;
    }
    const pauseMs = pressAgainMs[Math.min(presses, pressAgainMs.length - 1)] ?? 5000;
    if (await endsWithin(vm.ended, Math.min(pauseMs, left()))) return true;
  }
  return endsWithin(vm.ended, 0);
}

/** The connection, waited for while it is being made again; undefined when it did not come in time. */
async function connection(vm: Stoppable, limitMs: number): Promise<QmpClient | undefined> {
  const until = performance.now() + limitMs;
  while (vm.qmp() === undefined && performance.now() < until) {
    if (await endsWithin(vm.ended, connectionPollMs)) break;
  }
  return vm.qmp();
}

/**
 * Whether the guest has opened its end of the agent's port: without that nobody there would read a question. Where QEMU
 * can't be asked, asking the agent is all that is left.
 */
async function mayAskAgent(qmp: QmpClient | undefined, limitMs: number): Promise<boolean> {
  if (qmp === undefined) return true;
  try {
    const ports = await qmp.execute('query-chardev', {}, within(Math.min(statusMs, limitMs)));
    return ports.some((it) => it.label === 'agent' && it['frontend-open']);
  } catch {
    return false;
  }
}

/** Whether an agent took the order. guest-shutdown sends no reply on success: what is not refused soon is being done. */
async function askAgent(vm: Stoppable, limitMs: number): Promise<boolean> {
  const waiting = within(Math.min(agentMs, limitMs / 2));
  try {
    await using agent = await GuestAgent.connect(vm.agentPath, waiting);
    vm.emit('Guest agent asked to shut down');
    await agent.order('guest-shutdown', { mode: 'powerdown' }, within(Math.min(agentMs, limitMs)));
    return true;
  } catch {
    return false; // absent, hung or not allowed to: there is still the button
  }
}

/** A command whose answer does not matter: the guest or QEMU may be gone before it comes. */
async function send(
  qmp: QmpClient | undefined,
  command: 'cont' | 'quit' | 'system_powerdown',
  limitMs: number,
): Promise<void> {
  try {
    await qmp?.execute(command, {}, within(limitMs));
  } catch {
    // Closed, hung or refused: the next rung follows.
  }
}
