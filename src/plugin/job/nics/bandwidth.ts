import { type Bandwidth, quoted } from '#spec';
import type { Report } from '../../hcl/problem.ts';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import { parseSize, sizeForm } from '../../hcl/size.ts';

// The kernel keeps more than a second's traffic as a number of nanoseconds (nft_limit_init); below it a frame is a burst.
const bytesPerSecond = { min: 10_000, max: 10_000_000_000 } as const;

const rate = (direction: string) =>
  ({
    kind: 'attr',
    type: 'string',
    doc: `Maximum of bytes per second ${direction}, as a size with a unit, from 10 kB to 10 GB. Not of the user-mode network.`,
    example: '"12MB"',
  }) as const;

export const bandwidthFields = {
  bandwidth_in: rate('to the guest'),
  bandwidth_out: rate('from the guest'),
} as const satisfies Fields;

type Raw = Decoded<typeof bandwidthFields>;

interface Place {
  readonly path: string;
  readonly report: Report;
}

export function readBandwidth(
  { bandwidth_in, bandwidth_out }: Raw,
  place: Place,
): { readonly bandwidth?: Bandwidth } {
  if (bandwidth_in === undefined && bandwidth_out === undefined) return {};
  return {
    bandwidth: {
      ...(bandwidth_in !== undefined && { in: readRate('bandwidth_in', bandwidth_in, place) }),
      ...(bandwidth_out !== undefined && { out: readRate('bandwidth_out', bandwidth_out, place) }),
    },
  };
}

/** Of an interface that can't be limited. */
export function refuseBandwidth(raw: Raw, { path, report }: Place, text: string): void {
  for (const key of ['bandwidth_in', 'bandwidth_out'] as const) {
    if (raw[key] !== undefined) report(`${path}.${key}`, text);
  }
}

function readRate(key: keyof Raw, text: string, { path, report }: Place): number {
  const rate = parseSize(text);
  const { min, max } = bytesPerSecond;
  if (rate === undefined) report(`${path}.${key}`, `${quoted(text)} is not a size: ${sizeForm}`);
  else if (rate < min || rate > max) {
    report(`${path}.${key}`, `${quoted(text)} is not between 10kB and 10GB per second`);
  }
  return rate ?? min;
}
