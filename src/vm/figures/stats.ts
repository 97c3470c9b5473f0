import { figure } from '#qmp';
import type { GuestFigures } from '../domain-figures.ts';

/** Linux counts CPU time for /proc in 1/100 s on every architecture we run on (USER_HZ). */
const tickNs = 10_000_000;

export interface CpuFigures {
  readonly userNs: number;
  readonly systemNs: number;
}

export interface MemoryFigures {
  readonly rssBytes: number;
  readonly maxRssBytes: number | undefined;
  readonly swapBytes: number | undefined;
}

export interface GuestMemory {
  readonly usedBytes: number;
  readonly totalBytes: number;
}

/**
 * utime and stime: fields 14 and 15, counted after the last `)`, because a thread's name may contain blanks and
 * brackets.
 */
export function parseStat(stat: string): CpuFigures {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ', 13);
  return { userNs: Number(fields[11] ?? 0) * tickNs, systemNs: Number(fields[12] ?? 0) * tickNs };
}

const rssLine = /^VmRSS:\s+(\d+) kB$/m;
const maxRssLine = /^VmHWM:\s+(\d+) kB$/m;
const swapLine = /^VmSwap:\s+(\d+) kB$/m;

/** Memory lines of /proc/<pid>/status, which are in KiB. */
export function parseStatus(status: string): MemoryFigures {
  const [rssBytes = 0, maxRssBytes, swapBytes] = [rssLine, maxRssLine, swapLine].map((line) => {
    const kib = line.exec(status)?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  });
  return { rssBytes, maxRssBytes, swapBytes };
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
