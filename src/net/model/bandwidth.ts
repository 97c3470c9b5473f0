import * as v from 'valibot';
import type { Bandwidth } from '#spec';

/** A NIC whose link is bounded. */
export interface LimitedNic {
  readonly vm: string;
  readonly kind: 'tap' | 'macvtap';
  readonly tap: string;
  /** Path of the namespace that the link is in; this process's own when left out. */
  readonly netns?: string;
  readonly bandwidth: Bandwidth;
}

const limited = v.object({
  tap: v.exactOptional(v.string()),
  /** A macvtap. */
  link: v.exactOptional(v.string()),
  netns: v.exactOptional(v.string()),
  bandwidth: v.object({ in: v.exactOptional(v.number()), out: v.exactOptional(v.number()) }),
});

/** Of a NIC's record; undefined when nothing bounds it. */
export function decodeLimitedNic(vm: string, record: unknown): LimitedNic | undefined {
  const result = v.safeParse(limited, record);
  if (!result.success) return undefined;
  const { tap, link, bandwidth, netns } = result.output;
  const name = tap ?? link;
  if (name === undefined) return undefined;
  const kind = tap === undefined ? 'macvtap' : 'tap';
  return { vm, kind, tap: name, bandwidth, ...(netns !== undefined && { netns }) };
}
