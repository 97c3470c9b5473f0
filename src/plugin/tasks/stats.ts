import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { Beat, type Logger } from '#host';
import type { Waiting } from '#spec';
import type { DomainUsage } from '#vm';
import {
  CPUUsage_Fields,
  CPUUsageSchema,
  MemoryUsage_Fields,
  MemoryUsageSchema,
  TaskResourceUsageSchema,
  type TaskStatsResponseSchema,
  TaskStatsSchema,
} from '../gen/driver_pb.ts';
import type { Compute } from './node-compute.ts';
import type { Task } from './tasks.ts';

type Response = MessageInitShape<typeof TaskStatsResponseSchema>;

const minIntervalMs = 100;

export interface StatsOptions {
  readonly intervalMs: number;
  readonly compute: Compute | undefined;
  readonly log: Logger;
}

/** A sample at once and then one per interval, until the VM has ended or the signal aborts. */
export async function* taskStats(
  task: Task,
  { intervalMs: wantedMs, compute, log }: StatsOptions,
  { signal }: Waiting,
): AsyncGenerator<Response> {
  const end = AbortSignal.any([signal, task.over]);
  const beat = new Beat(Math.max(wantedMs, minIntervalMs), { signal: end });
  let before: DomainUsage | undefined;
  do {
    const now = await sample(task, log, end);
    if (end.aborted) return;
    if (now !== undefined) {
      yield toResponse({ id: task.taskId, now, before, compute });
      before = now;
    }
  } while (await beat.next());
}

async function sample(
  task: Task,
  log: Logger,
  signal: AbortSignal,
): Promise<DomainUsage | undefined> {
  try {
    return await task.domain.usage({ signal });
  } catch (error) {
    if (!signal.aborted) log.debug('usage could not be sampled', { task: task.taskId, error });
    return undefined;
  }
}

interface Measured {
  readonly id: string;
  readonly now: DomainUsage;
  readonly before: DomainUsage | undefined;
  readonly compute: Compute | undefined;
}

/** Only measured figures are listed as measured; a rate needs two samples. */
function toResponse({ id, ...measured }: Measured): Response {
  const { now } = measured;
  const usage = create(TaskResourceUsageSchema, {
    cpu: cpuUsage(measured),
    memory: memoryUsage(now),
  });
  const timestamp = timestampFromMs(now.atMs);
  const stats = create(TaskStatsSchema, { id, timestamp, aggResourceUsage: usage });
  // The figures are the whole VM's: those of one process only when it has no helpers.
  const [only, ...others] = now.pids;
  // Set here, because an object with a number for a key costs kilobytes each time that it is copied.
  if (only !== undefined && others.length === 0) stats.resourceUsageByPid[String(only)] = usage;
  return { stats };
}

function cpuUsage({
  now,
  before,
  compute,
}: Omit<Measured, 'id'>): MessageInitShape<typeof CPUUsageSchema> {
  const cpu = create(CPUUsageSchema);
  const wallNs = before === undefined ? 0 : (now.atMs - before.atMs) * 1e6;
  if (before !== undefined && wallNs > 0) {
    cpu.userMode = percent(now.cpuUserNs - before.cpuUserNs, wallNs);
    cpu.systemMode = percent(now.cpuSystemNs - before.cpuSystemNs, wallNs);
    cpu.percent = cpu.userMode + cpu.systemMode;
    cpu.measuredFields.push(
      CPUUsage_Fields.USER_MODE,
      CPUUsage_Fields.SYSTEM_MODE,
      CPUUsage_Fields.PERCENT,
    );
    if (compute !== undefined) {
      cpu.totalTicks = (cpu.percent / 100) * (compute.totalMHz / compute.cores);
      cpu.measuredFields.push(CPUUsage_Fields.TOTAL_TICKS);
    }
  }
  if (now.throttling !== undefined) {
    cpu.throttledPeriods = count(now.throttling.throttledPeriods);
    cpu.throttledTime = count(now.throttling.throttledNs);
    cpu.measuredFields.push(CPUUsage_Fields.THROTTLED_PERIODS, CPUUsage_Fields.THROTTLED_TIME);
  }
  return cpu;
}

/** 100 is one core fully busy. Never negative: a counter that ran backwards belongs to another process. */
function percent(cpuNs: number, wallNs: number): number {
  return Math.max(0, (cpuNs / wallNs) * 100);
}

function memoryUsage(now: DomainUsage): MessageInitShape<typeof MemoryUsageSchema> {
  const memory = create(MemoryUsageSchema, {
    rss: count(now.rssBytes),
    measuredFields: [MemoryUsage_Fields.RSS],
  });
  if (now.guestUsedBytes !== undefined) {
    memory.usage = count(now.guestUsedBytes);
    memory.measuredFields.push(MemoryUsage_Fields.USAGE);
  }
  if (now.maxRssBytes !== undefined) {
    memory.maxUsage = count(now.maxRssBytes);
    memory.measuredFields.push(MemoryUsage_Fields.MAX_USAGE);
  }
  if (now.swapBytes !== undefined) {
    memory.swap = count(now.swapBytes);
    memory.measuredFields.push(MemoryUsage_Fields.SWAP);
  }
  return memory;
}

/** Whole and not negative: BigInt throws for a fraction. */
function count(value: number): bigint {
  return Number.isFinite(value) ? BigInt(Math.max(0, Math.round(value))) : 0n;
}
