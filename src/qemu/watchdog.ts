import type { WatchdogAction } from '#spec';
import { device, option, type Part } from './part.ts';

/** A watchdog timer that the guest must reset in time, and QEMU's action when it expires. */
export function watchdog(action: WatchdogAction): Part {
  return {
    id: 'watchdog',
    files: [],
    options: () => [
      device({ driver: 'i6300esb', id: 'watchdog0' }),
      option('action', `watchdog=${action}`),
    ],
  };
}
