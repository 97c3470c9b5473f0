import { readFile } from 'node:fs/promises';
import { within } from '#host';
import { figure, type QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import type { DomainUsage } from '../virtualizer.ts';

/** Linux counts CPU time for /proc in 1/100 s on every architecture we run on (USER_HZ). */
const tickNs = 10_000_000;

const guestMs = 500;

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
export async function measure(
  pids: readonly number[],
  guest: GuestMemory | undefined,
): Promise<DomainUsage> {
  const found = (await Promise.all(pids.map(processFigures))).filter(
    (entry) => entry !== undefined,
  );
  return {
    atMs: Date.now(),
    cpuUserNs: sum(found.map(({ userNs }) => userNs)),
    cpuSystemNs: sum(found.map(({ systemNs }) => systemNs)),
    rssBytes: sum(found.map(({ rssBytes }) => rssBytes)),
    maxRssBytes: sumKnown(found.map(({ maxRssBytes }) => maxRssBytes)),
    swapBytes: sumKnown(found.map(({ swapBytes }) => swapBytes)),
    guestUsedBytes: guest?.usedBytes,
    guestTotalBytes: guest?.totalBytes,
    pids,
  };
}

/** One process's figures from /proc; undefined when it has ended. */
export async function processFigures(pid: number): Promise<ProcessFigures | undefined> {
  try {
    const [stat, status] = await Promise.all([
      readFile(`/proc/${pid}/stat`, 'utf8'),
      readFile(`/proc/${pid}/status`, 'utf8'),
    ]);
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

/**
 * Memory use as the guest reports it, limited to the memory that it has; undefined where the guest reports none or
 * QEMU does not answer in time. Never fails: the figure is optional.
 */
export async function guestMemory(
  qmp: QmpClient | undefined,
  limitBytes: number,
  waiting: Waiting,
): Promise<GuestMemory | undefined> {
  const path = '/machine/peripheral/balloon0';
  using limited = within(guestMs, waiting);
  try {
    const answer = await qmp?.execute('qom-get', { path, property: 'guest-stats' }, limited);
    return parseGuestStatistics(answer, limitBytes);
  } catch {
    return undefined;
  }
}

/** Decodes the balloon's `guest-stats`; a guest can report any number. */
export function parseGuestStatistics(answer: unknown, limitBytes: number): GuestMemory | undefined {
  if (typeof answer !== 'object' || answer === null || !('stats' in answer)) return undefined;
  if (!('last-update' in answer) || figure(answer['last-update']) === 0) return undefined;
  const { stats } = answer;
  if (typeof stats !== 'object' || stats === null) return undefined;
  const fields = new Map(Object.entries(stats));
  const total = figure(fields.get('stat-total-memory'));
  const available =
    figure(fields.get('stat-available-memory')) ?? figure(fields.get('stat-free-memory'));
  if (total === undefined || available === undefined || total <= 0) return undefined;
  const totalBytes = Math.min(total, limitBytes);
  return { totalBytes, usedBytes: Math.max(0, totalBytes - Math.min(available, totalBytes)) };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function sumKnown(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((entry) => entry !== undefined);
  return known.length === 0 ? undefined : sum(known);
}
