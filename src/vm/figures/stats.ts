import { readFileSync } from 'node:fs';
import type { CpuThrottling } from '#host';
import { figure } from '#qmp';
import type { DomainUsage, GuestFigures } from '../domain-figures.ts';

/** Linux counts CPU time for /proc in 1/100 s on every architecture we run on (USER_HZ). */
const tickNs = 10_000_000;

export interface ProcessFigures {
  readonly userNs: number;
  readonly systemNs: number;
  readonly rssBytes: number;
  readonly maxRssBytes: number | undefined;
  readonly swapBytes: number | undefined;
}

export interface GuestMemory {
  readonly usedBytes: number;
  readonly totalBytes: number;
}

/** The sum of the figures of a VM's processes; processes that have ended are left out. */
export function measure(
  pids: readonly number[],
  guest: GuestMemory | undefined,
  throttling?: CpuThrottling,
): DomainUsage {
  const found = pids.map(processFigures).filter((entry) => entry !== undefined);
  return {
    atMs: Date.now(),
    cpuUserNs: sum(found.map(({ userNs }) => userNs)),
    cpuSystemNs: sum(found.map(({ systemNs }) => systemNs)),
    rssBytes: sum(found.map(({ rssBytes }) => rssBytes)),
    maxRssBytes: sumKnown(found.map(({ maxRssBytes }) => maxRssBytes)),
    swapBytes: sumKnown(found.map(({ swapBytes }) => swapBytes)),
    guestUsedBytes: guest?.usedBytes,
    guestTotalBytes: guest?.totalBytes,
    throttling,
    pids,
  };
}

/** One process's figures from /proc; undefined when it has ended. */
export function processFigures(pid: number): ProcessFigures | undefined {
  try {
    // The kernel has both at hand, and reads none of the process's memory for them: some 20 µs each.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    return { ...parseStat(stat), ...parseStatus(status) };
  } catch {
    return undefined;
  }
}

/**
 * utime and stime: fields 14 and 15, counted after the last `)`, because a thread's name may contain blanks and
 * brackets.
 */
export function parseStat(stat: string): Pick<ProcessFigures, 'userNs' | 'systemNs'> {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { userNs: Number(fields[11] ?? 0) * tickNs, systemNs: Number(fields[12] ?? 0) * tickNs };
}

/** Memory lines of /proc/<pid>/status, which are in KiB. */
export function parseStatus(
  status: string,
): Pick<ProcessFigures, 'rssBytes' | 'maxRssBytes' | 'swapBytes'> {
  const kib = (key: string): number | undefined => {
    const match = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(status);
    return match?.[1] === undefined ? undefined : Number(match[1]) * 1024;
  };
  return { rssBytes: kib('VmRSS') ?? 0, maxRssBytes: kib('VmHWM'), swapBytes: kib('VmSwap') };
}

/** What the guest uses of its memory, limited to what it has; undefined where it does not report that. */
export function guestMemory(guest: GuestFigures, limitBytes: number): GuestMemory | undefined {
  const { totalBytes: total } = guest;
  const available = guest.availableBytes ?? guest.freeBytes;
  if (total === undefined || available === undefined || total <= 0) return undefined;
  const totalBytes = Math.min(total, limitBytes);
  return { totalBytes, usedBytes: Math.max(0, totalBytes - Math.min(available, totalBytes)) };
}

/** Decodes the balloon's `guest-stats`; a guest can report any number. */
export function parseGuestStatistics(answer: unknown): GuestFigures {
  if (typeof answer !== 'object' || answer === null || !('stats' in answer)) return {};
  if (!('last-update' in answer) || figure(answer['last-update']) === 0) return {};
  const { stats } = answer;
  if (typeof stats !== 'object' || stats === null) return {};
  const fields = new Map(Object.entries(stats));
  const reported = Object.entries(guestFields).flatMap(([name, field]) => {
    const value = figure(fields.get(field));
    return value === undefined ? [] : [[name, value]];
  });
  return Object.fromEntries(reported);
}

const guestFields = {
  totalBytes: 'stat-total-memory',
  freeBytes: 'stat-free-memory',
  availableBytes: 'stat-available-memory',
  cacheBytes: 'stat-disk-caches',
  swapInBytes: 'stat-swap-in',
  swapOutBytes: 'stat-swap-out',
  majorFaults: 'stat-major-faults',
  minorFaults: 'stat-minor-faults',
} as const satisfies Record<keyof GuestFigures, string>;

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function sumKnown(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((entry) => entry !== undefined);
  return known.length === 0 ? undefined : sum(known);
}
