import { blockDefaults } from '../hcl/decode-fields.ts';
import type { Report } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';

export const uidFields = {
  uid_range: {
    kind: 'block',
    doc: 'Each VM runs as a user id of its own from this range. No account should be in it; the default lies where neither distributions, containers nor Nomad hand out ids.',
    fields: {
      min: {
        kind: 'attr',
        type: 'number',
        default: 1_900_000_000,
        min: 1,
        max: 4_294_967_293,
        doc: 'First user and group id.',
        example: '1900000000',
      },
      max: {
        kind: 'attr',
        type: 'number',
        default: 1_900_065_535,
        min: 1,
        max: 4_294_967_293,
        doc: 'Last user and group id.',
        example: '1900065535',
      },
    },
  },
} as const satisfies Fields;

/** The user ids that VMs run as, first and last. */
export interface UidRange {
  readonly min: number;
  readonly max: number;
}

export function readUidRange(raw: Decoded<typeof uidFields>, report: Report): UidRange {
  const range = raw.uid_range ?? blockDefaults(uidFields.uid_range.fields);
  if (range.max < range.min) report('uid_range.max', 'must not be less than uid_range.min');
  return range;
}
