import { watchdogActions } from '#spec';
import type { Decoded } from '../hcl/schema.ts';

const fields = {
  action: {
    kind: 'attr',
    type: 'string',
    default: 'reset',
    oneOf: watchdogActions,
    doc: 'What happens when the guest stops feeding it: `reset` restarts the guest, `poweroff` ends the task as a failure, `pause` stops the guest for a look at it.',
    example: '"reset"',
  },
} as const;

/** A watchdog that resets a guest whose system hangs. */
export const watchdog = {
  field: {
    kind: 'block',
    doc: 'A watchdog timer (Intel 6300ESB) for the guest, whose system must feed it: with systemd by `RuntimeWatchdogSec=`. Without the block there is none.',
    fields,
  },
  read: ({ action }: Decoded<typeof fields>) => ({ action }),
} as const;
