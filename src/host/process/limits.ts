import { readFileSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { errnoOf } from '../error.ts';
import { sysCloseRange } from '../files/descriptor.ts';
import { attempt, must } from '../native/libc.ts';

const resources = { core: 4, cpuSeconds: 0, fileSize: 1, openFiles: 7, processes: 6 } as const;
const names = ['core', 'cpuSeconds', 'fileSize', 'openFiles', 'processes'] as const;
const maxCore = 8191;

/** Restricts the threads that a process has now to these cores, if there are any. Throws HostError. */
export async function pinProcess(pid: number, cores: readonly number[]): Promise<void> {
  if (cores.length === 0) return;
  for (const tid of await readdir(`/proc/${pid}/task`)) {
    try {
      setAffinity(Number(tid), cores);
    } catch (error) {
      if (errnoOf(error) !== 'ESRCH') throw error; // it has ended meanwhile
    }
  }
}

/** Restricts thread `tid` to these cores. Throws HostError (ESRCH: no such thread, EINVAL: no such core). */
export function setAffinity(tid: number, cores: readonly number[]): void {
  const mask = Buffer.alloc((Math.max(0, ...cores) >> 6) * 8 + 8); // whole 64-bit words, as the kernel requires
  for (const core of cores) {
    if (!Number.isInteger(core) || core < 0 || core > maxCore) {
      throw new RangeError(`not a core number: ${core}`);
    }
    mask[core >> 3] = (mask[core >> 3] ?? 0) | (1 << (core & 7));
  }
  must(
    `pinning thread ${tid} to cores ${cores.join(',')}`,
    'schedSetaffinity',
    tid,
    mask.length,
    mask,
  );
}

/** Limits of a process; which kind, the function that sets them states. */
export interface ProcessLimits {
  /** Maximum bytes of a core dump. */
  readonly core?: number;
  /** CPU time; the process is killed when it has used it up. */
  readonly cpuSeconds?: number;
  /** Maximum bytes of a file that it writes. */
  readonly fileSize?: number;
  readonly openFiles?: number;
  /** Processes and threads of its user. */
  readonly processes?: number;
}

/**
 * Sets hard and soft limits of a running process; those that are not named stay unchanged. Throws HostError, with EPERM
 * for a process of another user without CAP_SYS_RESOURCE, which root in a container may lack.
 */
export function limitProcess(pid: number, limits: ProcessLimits): void {
  for (const name of names) {
    const limit = limits[name];
    if (limit === undefined) continue;
    const wanted = Buffer.alloc(16); // struct rlimit: soft, hard
    wanted.writeBigUInt64LE(BigInt(limit), 0);
    wanted.writeBigUInt64LE(BigInt(limit), 8);
    must(`limiting ${name} of process ${pid}`, 'prlimit', pid, resources[name], wanted, null);
  }
}

/**
 * Runs `start`; programs that it starts begin with these limits. Needs no privilege, since it only lowers this process's
 * own soft limits, which children inherit, and raises them again; so a child may raise its own as well.
 */
export function startLimited<T>(limits: ProcessLimits, start: () => T): T {
  const former = names.flatMap((name) => {
    const limit = limits[name];
    return limit === undefined ? [] : [{ name, before: lower(name, limit) }];
  });
  try {
    return start();
  } finally {
    for (const { name, before } of former) {
      must(`restoring the limit ${name}`, 'prlimit', 0, resources[name], before, null);
    }
  }
}

/** Lowers this process's own soft limit, unless it is lower already. Returns both limits as they were. */
function lower(name: keyof ProcessLimits, limit: number): Buffer {
  const before = Buffer.alloc(16);
  must(`reading the limit ${name}`, 'prlimit', 0, resources[name], null, before);
  const wanted = Buffer.from(before);
  const soft = before.readBigUInt64LE(0);
  wanted.writeBigUInt64LE(soft < BigInt(limit) ? soft : BigInt(limit), 0);
  must(`setting the limit ${name}`, 'prlimit', 0, resources[name], wanted, null);
  return before;
}

const dumpFilter = '/proc/self/coredump_filter';

/**
 * Runs `start`; a core dump of a program that it starts contains none of its memory. The limit on core files is not
 * enough: a handler that the kernel pipes core dumps to gets them regardless. Children inherit the filter.
 */
export function startUndumped<T>(start: () => T): T {
  let before: string;
  try {
    before = readFileSync(dumpFilter, 'latin1').trim();
  } catch {
    return start(); // a kernel without core dumps
  }
  writeFileSync(dumpFilter, '0');
  try {
    return start();
  } finally {
    writeFileSync(dumpFilter, `0x${before}`);
  }
}

const closeRangeCloseOnExec = 4;

/**
 * Prevents programs started from now on from inheriting the descriptors that this process itself inherited: its parent
 * may have left some open. Before Linux 5.11 it does nothing.
 */
export function inheritNothing(): void {
  const lastFd = 0xffff_ffff;
  attempt('syscall4', sysCloseRange, 3, lastFd, closeRangeCloseOnExec, 0);
}
