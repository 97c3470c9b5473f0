import type { Shaper } from '#netlink';
import type { LimitedNic } from '../model/bandwidth.ts';

/** What bounds a NIC's link: what leaves the host's end of it is held back, what arrives there too fast is dropped. */
export interface LimitPlan {
  readonly leaving?: Shaper;
  /** The script that makes or replaces the table. */
  readonly arriving?: string;
}

const KiB = 1024;
const MiB = 1024 * KiB;

/**
 * A packet of 64 KiB, as a guest sends it where the kernel divides it into frames, always has room. A frame to a guest
 * leaves the host by its tap; a macvtap is the guest's own card, which its frames leave by.
 */
export function planLimits({ kind, tap, bandwidth }: LimitedNic): LimitPlan {
  const { in: toGuest, out: fromGuest } = bandwidth;
  const isTap = kind === 'tap';
  const [leaving, arriving] = isTap ? [toGuest, fromGuest] : [fromGuest, toGuest];
  return {
    ...(leaving !== undefined && { leaving: planShaper(leaving) }),
    ...(arriving !== undefined && { arriving: formatPolicer(tap, arriving) }),
  };
}

/** The key of the job that a limit comes from. */
export function keyOf({ kind }: LimitedNic, side: keyof LimitPlan): string {
  return (side === 'leaving') === (kind === 'tap') ? 'bandwidth_in' : 'bandwidth_out';
}

/** 20 ms of traffic at once, which no timer of a kernel exceeds, and 50 ms in the queue. */
function planShaper(bytesPerSecond: number): Shaper {
  const burstBytes = between(bytesPerSecond / 50, 64 * KiB, 16 * MiB);
  const queueBytes = burstBytes + between(bytesPerSecond / 20, 128 * KiB, 16 * MiB);
  return { bytesPerSecond, burstBytes, queueBytes };
}

/** The kernel adds a second's traffic to the burst (nft_limit_init). */
function formatPolicer(tap: string, bytesPerSecond: number): string {
  return `${formatRemoval(tap)}table ${limitTable(tap)} {
  chain arriving {
    type filter hook ingress device "${tap}" priority filter - 1; policy accept;
    limit rate over ${bytesPerSecond} bytes/second burst ${64 * KiB} bytes drop
  }
}
`;
}

/** One for each link, because a chain at this hook names its link. */
export function limitTable(tap: string): string {
  return `netdev ${tap}_rate`;
}

/** The script that removes the table; adding first makes it succeed when there is none. */
export function formatRemoval(tap: string): string {
  const table = limitTable(tap);
  return `add table ${table}\ndelete table ${table}\n`;
}

function between(value: number, min: number, max: number): number {
  return Math.round(Math.min(Math.max(value, min), max));
}
