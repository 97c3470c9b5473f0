import { readFileSync, readlinkSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { geteuid } from 'node:process';
import type { Waiting } from '#spec';
import { attempt } from '../native/libc.ts';
import { inTurns } from '../turns.ts';
import { argumentsOf } from './arguments.ts';
import { identify, type ProcessIdentity } from './process.ts';

/** A process that was found, with the user that it runs as. */
export interface FoundProcess extends ProcessIdentity {
  /** From /proc/<pid>/status, which the process can't change. */
  readonly uid: number;
}

export interface MarkedProcess extends FoundProcess {
  readonly args: readonly string[];
}

const maxPid = 2 ** 22;
/** Looked at in one go: some 2 ms. */
const looksPerTurn = 64;

/** All processes that run as this user, zombies left out. */
export async function findByUser(uid: number, waiting: Waiting): Promise<readonly FoundProcess[]> {
  waiting.signal.throwIfAborted();
  return hasNone(uid) ? [] : findByUsers(new Set([uid]), waiting);
}

// The system call, whose number differs: the C function answers -1 for a priority as well.
const sysGetPriority = process.arch === 'arm64' ? 141 : 140;
const prioUser = 2;

/**
 * Whether no process of that user exists. The kernel searches all of them in microseconds (getpriority(2)), where /proc
 * takes a tenth of a millisecond for each.
 */
function hasNone(uid: number): boolean {
  return attempt('syscall4', sysGetPriority, prioUser, uid, 0, 0).errno === 'ESRCH';
}

/** Of which processes the arguments are looked at. */
export interface MarkedAmong {
  /** False: not of those of this process's own user. */
  readonly own?: boolean;
  /** Those that run one of these files. */
  readonly programs?: readonly string[];
}

/**
 * All processes but this one that have an argument with `mark` in it and run as one of these users, or as this process's
 * own unless `own` is false. The memory of other users' processes is not read: they can delay the read as long as they like.
 */
export async function findByMark(
  mark: string,
  users: readonly number[],
  waiting: Waiting,
  { own = true, programs }: MarkedAmong = {},
): Promise<readonly MarkedProcess[]> {
  if (mark === '') throw new RangeError('an empty mark is in every argument');
  const marked: MarkedProcess[] = [];
  const wanted = own ? [geteuid?.() ?? 0, ...users] : users;
  if (wanted.every(hasNone)) return [];
  for (const found of await findByUsers(new Set(wanted), waiting)) {
    if (found.pid === process.pid) continue;
    if (programs !== undefined && !programs.includes(programOf(found.pid))) continue;
    const args = await argumentsOf(found, waiting);
    // Its pid may have passed to another process while its arguments were read.
    const same = identify(found.pid)?.startTicks === found.startTicks;
    if (same && args.some((argument) => argument.includes(mark))) marked.push({ ...found, args });
  }
  return marked;
}

async function findByUsers(
  users: ReadonlySet<number>,
  { signal }: Waiting,
): Promise<readonly FoundProcess[]> {
  const pids = (await readdir('/proc')).map(Number).filter((pid) => pid > 0 && pid <= maxPid);
  const found: FoundProcess[] = [];
  await inTurns(pids, looksPerTurn, (pid) => {
    signal.throwIfAborted();
    const process = look(pid, users);
    if (process !== undefined) found.push(process);
  });
  return found;
}

/**
 * undefined for a process of another user, and for a zombie. Synchronous: the kernel answers these from its own memory,
 * and on a host whose processors are busy each hop to a thread costs more than all of them.
 */
function look(pid: number, users: ReadonlySet<number>): FoundProcess | undefined {
  const owner = statSync(`/proc/${pid}`, { throwIfNoEntry: false });
  // Root owns the directory of a process that may not be dumped, also of one that asked for that (proc(5)).
  if (owner === undefined || (owner.uid !== 0 && !users.has(owner.uid))) return undefined;
  const identity = identify(pid);
  const uid = parseUser(readStatus(pid));
  if (identity === undefined || uid === undefined || !users.has(uid)) return undefined;
  return { ...identity, uid };
}

function readStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    return ''; // it has ended
  }
}

/** The file that it runs, which the kernel names without a look at its memory; empty when it has ended. */
function programOf(pid: number): string {
  try {
    // After an upgrade of the package the kernel marks the running program's file as deleted.
    return readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, '');
  } catch {
    return '';
  }
}

/**
 * The user in a /proc/<pid>/status: real, effective, saved and for files. undefined where they differ: a set-user-ID
 * program that another user started is not the driver's, and that user can delay reads of its memory.
 */
export function parseUser(status: string): number | undefined {
  const ids = /^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$/m.exec(status)?.slice(1) ?? [];
  return new Set(ids).size === 1 ? Number(ids[0]) : undefined;
}
