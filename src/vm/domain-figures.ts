import type { CpuThrottling } from '#host';
import type { VmIdentity } from '#spec';

/** A figure that could not be measured is undefined, never 0. */
export interface DomainUsage {
  /** Wall clock of the sample, ms since the epoch. */
  readonly atMs: number;
  readonly cpuUserNs: number;
  readonly cpuSystemNs: number;
  readonly rssBytes: number;
  /** In use inside the guest, from the balloon, when the guest reports it. */
  readonly guestUsedBytes: number | undefined;
  readonly guestTotalBytes: number | undefined;
  readonly swapBytes: number | undefined;
  /** Highest RSS since the start. */
  readonly maxRssBytes: number | undefined;
  /** undefined where the task has no group of its own. */
  readonly throttling: CpuThrottling | undefined;
  /** Process ids that make up the VM (QEMU and its helpers). */
  readonly pids: readonly number[];
}

/** A virtual processor: the time that it ran, and the time that it could have run and another thread did. */
export interface VcpuFigures {
  readonly index: number;
  readonly runNs: number;
  readonly stealNs: number;
}

/** A disk since QEMU's start, as the guest uses it. */
export interface DiskFigures {
  /** As in the job, e.g. `vda`. */
  readonly name: string;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly readErrors: number;
  readonly writeErrors: number;
}

export interface NicTraffic {
  readonly bytes: number;
  readonly packets: number;
  readonly errors: number;
  readonly drops: number;
}

/** An interface as the guest sees it. */
export interface NicFigures {
  /** `net0`, `net1`, … in the job's order. */
  readonly name: string;
  readonly received: NicTraffic;
  readonly sent: NicTraffic;
}

/** What the guest's balloon driver reports, each figure where it does. */
export interface GuestFigures {
  readonly totalBytes?: number;
  readonly freeBytes?: number;
  readonly availableBytes?: number;
  readonly cacheBytes?: number;
  readonly swapInBytes?: number;
  readonly swapOutBytes?: number;
  readonly majorFaults?: number;
  readonly minorFaults?: number;
}

/** Everything that is measured of a VM. */
export interface DomainFigures {
  readonly identity: VmIdentity;
  readonly usage: DomainUsage;
  readonly vcpus: readonly VcpuFigures[];
  readonly disks: readonly DiskFigures[];
  readonly nics: readonly NicFigures[];
  readonly guest: GuestFigures;
}
