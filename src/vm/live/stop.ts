import { endsWithin, within } from '#host';
import { isAgentOpen } from '#qemu';
import type { QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import type { AgentLine } from '../guest/agent/agent-line.ts';
import type { Emit } from '../task-event.ts';
import { isPaused } from './monitor.ts';

/** How long each step of a stop may take; together they fill the job's kill_timeout. */
export interface StopTimes {
  /** For the guest to power itself off. */
  readonly politeMs: number;
  /** For QEMU to end after `quit`, and again after SIGTERM; SIGKILL follows. */
  readonly stepMs: number;
}

/** The grace of a guest that was not ready in time, where its task is to fail for that. */
export const unreadyStop = { graceMs: 10_000, immediately: false } as const;

/** Maximum reserved for QEMU, which ends within 20 ms of `quit` on a host that is not overloaded. */
const maxForceMs = 300;

/**
 * Splits a grace period: the guest gets all but a reserve at the end, which is for QEMU, so that the sum stays inside.
 */
export function stopTimes(graceMs: number): StopTimes {
  const forceMs = Math.min(maxForceMs, graceMs * 0.3);
  return { politeMs: Math.max(0, graceMs - forceMs), stepMs: forceMs / 2 };
}

/** What a stop needs of a VM. */
export interface Stoppable {
  /** The current connection, which is replaced after it broke; undefined while there is none. */
  qmp(): QmpClient | undefined;
  readonly agent: AgentLine;
  /** Ends the commands that run in the guest; throws the signal's reason. */
  readonly endCommands: (waiting: Waiting) => Promise<void>;
  /** Settles when the VM has ended. */
  readonly ended: Promise<unknown>;
  terminate(): void;
  readonly emit: Emit;
}

const statusMs = 1000;
/** A shell at a terminal ignores SIGTERM: the guest would wait for it, with systemd DefaultTimeoutStopSec, which is 90 s. */
const commandsMs = 2000;
/** A working agent answers within milliseconds; one that hangs must not use up the power button's time. */
const agentMs = 1500;
/** How long a guest that the agent shuts down has before the power button is pressed as well. */
const agentHeadStartMs = 10_000;
/** A broken connection is restored within this time, unless another client has connected to the monitor. */
const reconnectMs = 3000;
const connectionPollMs = 50;

/** Pauses while there is no connection, and then between presses: short at first, for guests that missed a press. */
const pressAgainMs = [250, 500, 2500, 5000];

/**
 * Asks the guest to power off, then QEMU to quit, then sends SIGTERM, each with its time limit. Returns true when the
 * VM has ended, false when only SIGKILL is left.
 */
export async function stopInSteps(vm: Stoppable, times: StopTimes): Promise<boolean> {
  if (await askGuest(vm, times.politeMs)) return true;
  vm.emit('Guest did not power off in time; ending QEMU');
  await send(vm.qmp(), 'quit', times.stepMs);
  if (await endsWithin(vm.ended, times.stepMs)) return true;
  vm.terminate();
  return endsWithin(vm.ended, times.stepMs);
}

async function askGuest(vm: Stoppable, politeMs: number): Promise<boolean> {
  const until = performance.now() + politeMs;
  const left = (): number => Math.max(0, until - performance.now());
  const qmp = await connection(vm, Math.min(reconnectMs, politeMs / 3));
  // A paused guest would never receive the request, and only QEMU knows reliably whether it is paused.
  if (qmp !== undefined && (await seemsPaused(qmp, left()))) await send(qmp, 'cont', left());
  using ending = within(Math.min(commandsMs, left() / 4));
  await vm.endCommands(ending).catch(() => {});
  if ((await mayAskAgent(qmp, left())) && (await askAgent(vm, left()))) {
    if (await endsWithin(vm.ended, Math.min(agentHeadStartMs, left() / 2))) return true;
  }
  return pressButton(vm, left);
}

async function seemsPaused(qmp: QmpClient, limitMs: number): Promise<boolean> {
  using limited = within(Math.min(statusMs, limitMs));
  return await isPaused(qmp, limited);
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

/** The connection, waiting for a reconnect; undefined when there is none in time. */
async function connection(vm: Stoppable, limitMs: number): Promise<QmpClient | undefined> {
  const until = performance.now() + limitMs;
  while (vm.qmp() === undefined && performance.now() < until) {
    if (await endsWithin(vm.ended, connectionPollMs)) break;
  }
  return vm.qmp();
}

/**
 * Whether the guest has opened its end of the agent's port: otherwise no process there reads a request. Without a
 * connection to QEMU the agent is tried anyway.
 */
async function mayAskAgent(qmp: QmpClient | undefined, limitMs: number): Promise<boolean> {
  if (qmp === undefined) return true;
  using limited = within(Math.min(statusMs, limitMs));
  try {
    return isAgentOpen(await qmp.execute('query-chardev', {}, limited)) === true;
  } catch {
    return false;
  }
}

/**
 * Whether an agent accepted the request. guest-shutdown sends no reply on success: without an error in time it is
 * being done. Commands in the guest that want something of the agent wait meanwhile.
 */
async function askAgent(vm: Stoppable, limitMs: number): Promise<boolean> {
  using waiting = within(Math.min(agentMs, limitMs / 2));
  try {
    await vm.agent.use(
      async (agent) => {
        // The connection may be an old one, and the agent have stopped answering since.
        await agent.execute('guest-ping', {}, waiting);
        vm.emit('Guest agent was asked to shut down the guest');
        using limited = within(Math.min(agentMs, limitMs));
        await agent.order('guest-shutdown', { mode: 'powerdown' }, limited);
      },
      { urgent: true },
      waiting,
    );
    return true;
  } catch {
    return false; // absent, hung or not permitted: the power button follows
  }
}

/** Sends a command and ignores its result: the guest or QEMU may end before the answer. */
async function send(
  qmp: QmpClient | undefined,
  command: 'cont' | 'quit' | 'system_powerdown',
  limitMs: number,
): Promise<void> {
  using limited = within(limitMs);
  try {
    await qmp?.execute(command, {}, limited);
  } catch {
    // Closed, hung or refused: the next step follows.
  }
}
