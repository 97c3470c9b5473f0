import { readFileSync, writeFileSync } from 'node:fs';
import { attempt, must } from './libc.ts';

const resources = { core: 4, cpuSeconds: 0, fileSize: 1, openFiles: 7, processes: 6 } as const;
const names = ['core', 'cpuSeconds', 'fileSize', 'openFiles', 'processes'] as const;
const highestCore = 8191;

/** Runs thread `tid` on these cores only. Throws HostError (ESRCH: no such thread, EINVAL: no such core). */
export function setAffinity(tid: number, cores: readonly number[]): void {
  const mask = Buffer.alloc((Math.max(0, ...cores) >> 6) * 8 + 8); // whole 64-bit words, as the kernel wants it
  for (const core of cores) {
    if (!Number.isInteger(core) || core < 0 || core > highestCore) {
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

/** Hard and soft limit alike. */
export interface ProcessLimits {
  /** Bytes of a core dump. */
  readonly core?: number;
  /** CPU time used up; the process is killed then. */
  readonly cpuSeconds?: number;
  /** Bytes of the largest file it may write. */
  readonly fileSize?: number;
  readonly openFiles?: number;
  /** Processes and threads of its user. */
  readonly processes?: number;
}

/**
 * Limits a running process from outside; what is not named stays as it is. Throws HostError, with EPERM for a
 * process of another user unless we have CAP_SYS_RESOURCE, which root in a container may lack.
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
 * Runs `start` while what it starts begins with these limits. Works without any right, since it lowers just our own soft
 * limits, which children inherit, and raises them again; so a child may raise its own as well.
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

/** Lowers our own soft limit, as far as it is not lower already; both limits as they were. */
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
 * Runs `start` while what it starts has nothing of its memory dumped, if it ever crashes: a handler of core dumps that
 * the kernel pipes them to gets them whatever the limit on core files is. Children inherit the filter.
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

const sysCloseRange = 436;
const closeRangeCloseOnExec = 4;

/**
 * Keeps programs started from now on from inheriting descriptors that this process was itself started with: whoever
 * started it may have left some open. Before Linux 5.11 it does nothing.
 */
export function inheritNothing(): void {
  const highest = 0xffff_ffff;
  attempt('syscall4', sysCloseRange, 3, highest, closeRangeCloseOnExec, 0);
}
