import { watchdog } from '#qemu';
import type { VmSpec } from '#spec';
import type { Prepared } from './device.ts';

/** The watchdog that the job configures, if any. */
export function prepareWatchdog({ watchdog: wanted }: VmSpec): readonly Prepared[] {
  if (wanted === undefined) return [];
  const record = { kind: 'emulated', id: 'watchdog', model: 'i6300esb' } as const;
  return [{ part: watchdog(wanted.action), record }];
}
