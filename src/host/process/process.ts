import { readFileSync } from 'node:fs';
import type { Waiting } from '#spec';
import { errnoOf, HostError } from '../error.ts';
import { closeFd } from '../files/descriptor.ts';
import { readSmall } from '../files/small-file.ts';
import { attempt, libcError } from '../native/libc.ts';
import { pause } from '../waiting.ts';

/** Identifies one process permanently: pids are reused, and start times count from boot. */
export interface ProcessIdentity {
  readonly pid: number;
  /** /proc/<pid>/stat field 22, in clock ticks since boot; text, because it may exceed 2^53. */
  readonly startTicks: string;
  readonly bootId: string;
}

const sysPidfdSendSignal = 424;
const sysPidfdOpen = 434;
const sigkill = 9;
const firstPollMs = 5;
const maxPollMs = 100;

/** The fields of /proc/<pid>/stat that are used here. */
export interface ProcessStat {
  readonly state: string;
  readonly threads: number;
  readonly startTicks: string;
}

/** Reads one /proc/<pid>/stat. The program's name may hold blanks and brackets: the fields follow its last `)`. */
export function parseStat(text: string): ProcessStat | undefined {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, threads, startTicks] = [fields[0], Number(fields[17]), fields[19]];
  if (!state || !Number.isInteger(threads) || !startTicks || !/^\d+$/.test(startTicks)) return;
  return { state, threads, startTicks };
}

/** The process that has this pid now; undefined when there is none, or only a zombie. */
export function identify(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  return stat === undefined || isDead(stat) ? undefined : identityOf(pid, stat);
}

/** As `identify`, zombies included: right after a spawn the program may have ended already. */
export function identifyChild(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  return stat && identityOf(pid, stat);
}

/** The state of its first thread: `S` of one that waits. undefined: there is no such process. */
export function stateOf(pid: number): string | undefined {
  return readStat(pid)?.state;
}

function identityOf(pid: number, { startTicks }: ProcessStat): ProcessIdentity {
  return { pid, startTicks, bootId: bootId() };
}

function readStat(pid: number): ProcessStat | undefined {
  try {
    return parseStat(readSmall(`/proc/${pid}/stat`));
  } catch (error) {
    // ESRCH: it ended between open and read.
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ESRCH') return undefined;
    throw new HostError(`reading the state of process ${pid}`, { cause: error });
  }
}

/**
 * A zombie whose other threads have ended holds no resources, however late its parent reaps it. While one of them is
 * still ending, files and memory are in use although the first thread is a zombie already.
 */
function isDead({ state, threads }: ProcessStat): boolean {
  return (state === 'Z' && threads <= 1) || state === 'X' || state === 'x';
}

/** Whether it is the stat of a process that is not dead. */
export function isRunning(text: string): boolean {
  // Most sleep, and are looked at again and again: the other fields matter for none of them.
  if (text[text.lastIndexOf(')') + 2] === 'S') return true;
  const stat = parseStat(text);
  return stat !== undefined && !isDead(stat);
}

let cachedBootId: string | undefined;

/** Identifies this boot of the host: a pid from another boot is meaningless. */
export function bootId(): string {
  cachedBootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  return cachedBootId;
}

/** Whether this process still runs: same boot, same start, not a zombie. */
export function isAlive(identity: ProcessIdentity): boolean {
  if (identity.bootId !== bootId()) return false;
  return identify(identity.pid)?.startTicks === identity.startTicks;
}

/**
 * Sends a signal, by number (0 only checks), to this process and no other. false: it has ended, and its pid may belong to
 * another one. The descriptor pins the pid before the identity is checked, so the pid can't be reused in between.
 */
export function pidfdSignal(identity: ProcessIdentity, signal: number): boolean {
  if (identity.pid === process.pid) throw new RangeError('this process must not signal itself');
  const what = `sending signal ${signal} to process ${identity.pid}`;
  const opened = attempt('syscall4', sysPidfdOpen, identity.pid, 0, 0, 0);
  if (opened.errno === 'ESRCH' || opened.errno === 'EINVAL') return false;
  if (opened.errno !== undefined) throw libcError(what, opened.errno);
  try {
    if (!isAlive(identity)) return false;
    const { errno } = attempt('syscall4', sysPidfdSendSignal, opened.value, signal, 0, 0);
    if (errno === undefined) return true;
    if (errno === 'ESRCH') return false;
    throw libcError(what, errno);
  } finally {
    closeFd(opened.value);
  }
}

/** Resolves when this process is dead, reaped or not. Rejects with the signal's reason. */
export async function waitGone(identity: ProcessIdentity, waiting: Waiting): Promise<void> {
  for (let ms = firstPollMs; isAlive(identity); ms = Math.min(ms * 2, maxPollMs)) {
    await pause(ms, waiting);
  }
}

/** Sends SIGKILL, then waits until the process is dead. Does nothing when it already is. */
export async function kill(identity: ProcessIdentity, waiting: Waiting): Promise<void> {
  pidfdSignal(identity, sigkill);
  await waitGone(identity, waiting);
}
