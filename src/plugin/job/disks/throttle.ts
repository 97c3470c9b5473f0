import { type DiskThrottle, quoted } from '#spec';
import type { Report } from '../../hcl/problem.ts';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import { parseSize, sizeForm } from '../../hcl/size.ts';

const maxPerSecond = 1_000_000_000;
/** QEMU's own maximum, with the burst multiplied in. */
const maxBytes = 1e15;

const operations = (what: string) =>
  ({
    kind: 'attr',
    type: 'number',
    min: 1,
    max: maxPerSecond,
    doc: `Maximum of ${what} operations per second.`,
    example: '500',
  }) as const;

const bytes = (what: string) =>
  ({
    kind: 'attr',
    type: 'string',
    doc: `Maximum of bytes ${what} per second, as a size with a unit.`,
    example: '"100MB"',
  }) as const;

export const throttleFields = {
  iops: operations('all'),
  iops_read: operations('read'),
  iops_write: operations('write'),
  bps: bytes('read and written'),
  bps_read: bytes('read'),
  bps_write: bytes('written'),
  burst: {
    kind: 'attr',
    type: 'number',
    min: 1,
    max: 3600,
    default: 1,
    doc: "How many seconds' worth of a limit may be used at once after a time of rest.",
    example: '10',
  },
} as const satisfies Fields;

type Raw = Decoded<typeof throttleFields>;

export function readThrottle(raw: Raw | undefined, report: Report): DiskThrottle | undefined {
  if (raw === undefined) return undefined;
  const rate = (key: 'bps' | 'bps_read' | 'bps_write') => readRate(key, raw, report);
  const limits = {
    ...(raw.iops && { iops: raw.iops }),
    ...(raw.iops_read && { iopsRead: raw.iops_read }),
    ...(raw.iops_write && { iopsWrite: raw.iops_write }),
    ...(raw.bps && { bytes: rate('bps') }),
    ...(raw.bps_read && { bytesRead: rate('bps_read') }),
    ...(raw.bps_write && { bytesWrite: rate('bps_write') }),
  };
  if (Object.keys(limits).length === 0) report('throttle', 'sets no limit');
  for (const total of ['iops', 'bps'] as const) {
    if (raw[total] && (raw[`${total}_read`] || raw[`${total}_write`])) {
      report(`throttle.${total}`, `can not be combined with ${total}_read and ${total}_write`);
    }
  }
  return { ...limits, burstSeconds: raw.burst };
}

function readRate(key: 'bps' | 'bps_read' | 'bps_write', raw: Raw, report: Report): number {
  const text = raw[key] ?? '';
  const perSecond = parseSize(text);
  const shown = quoted(text);
  if (perSecond === undefined) {
    report(`throttle.${key}`, `${shown} is not a number of bytes: ${sizeForm}`);
  } else if (perSecond === 0) {
    report(`throttle.${key}`, 'must be more than 0; leave it out for no limit');
  } else if (perSecond * raw.burst > maxBytes) {
    const times = raw.burst === 1 ? '' : ` times burst = ${raw.burst}`;
    report(`throttle.${key}`, `${shown}${times} is more than the 1000 TB possible`);
  }
  return perSecond ?? 0;
}
