import type { Decoded } from '../hcl/schema.ts';

const fields = {
  via: {
    kind: 'attr',
    type: 'string',
    default: 'auto',
    oneOf: ['auto', 'agent'],
    doc: 'How commands reach the guest: `agent` by qemu-guest-agent in the guest, `auto` by whatever the guest has.',
    example: '"agent"',
  },
  user: {
    kind: 'attr',
    type: 'string',
    doc: 'User of the guest that commands run as; root when left out.',
    example: '"www-data"',
  },
} as const;

/** How `nomad alloc exec`, script checks and the like run commands in the guest. */
export const exec = {
  field: {
    kind: 'block',
    doc: 'How commands run in the guest, for `nomad alloc exec`, actions, script checks and `change_mode = "script"`. They work without the block as well.',
    fields,
  },
  read: ({ user }: Decoded<typeof fields>) => (user ? { user } : {}),
} as const;
