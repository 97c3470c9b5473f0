import { blockDefaults } from '../hcl/decode-fields.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';

export const limitFields = {
  limits: {
    kind: 'block',
    doc: 'The minimum and maximum that a job may ask for, and the maximum that one VM may use of what all share.',
    fields: {
      min_memory_mb: {
        kind: 'attr',
        type: 'number',
        default: 64,
        min: 1,
        max: 1_048_576,
        doc: 'Minimum memory of a task, in MiB.',
        example: '128',
      },
      min_disk_mb: {
        kind: 'attr',
        type: 'number',
        default: 1,
        min: 1,
        max: 1_073_741_824,
        doc: 'Minimum size of the primary disk, in MiB.',
        example: '64',
      },
      max_disk_mb: {
        kind: 'attr',
        type: 'number',
        default: 2_097_152,
        min: 1,
        max: 1_073_741_824,
        doc: 'Maximum virtual size of an image or a disk, in MiB.',
        example: '102400',
      },
      max_connections: {
        kind: 'attr',
        type: 'number',
        default: 8192,
        min: 16,
        max: 1_000_000,
        doc: 'Connections that one VM on a managed network may have open through this host, once for those it opens and once for those to its published ports, over IPv4 and over IPv6 each; a tenth as many new ones a second. The sum for all VMs should stay well below `net.netfilter.nf_conntrack_max`.',
        example: '32768',
      },
    },
  },
} as const satisfies Fields;

/** What a job may ask for, and what one VM may use. */
export interface Limits {
  readonly minMemoryMiB: number;
  readonly minDiskMiB: number;
  readonly maxDiskMiB: number;
  /** Tracked connections of one VM, in each direction. */
  readonly maxConnections: number;
}

export function readLimits(raw: Decoded<typeof limitFields>): Limits {
  const limits = raw.limits ?? blockDefaults(limitFields.limits.fields);
  return {
    minMemoryMiB: limits.min_memory_mb,
    minDiskMiB: limits.min_disk_mb,
    maxDiskMiB: limits.max_disk_mb,
    maxConnections: limits.max_connections,
  };
}
