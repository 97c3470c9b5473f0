import type { Decoded } from '../hcl/schema.ts';

const fields = {
  via: {
    kind: 'attr',
    type: 'string',
    default: 'auto',
    oneOf: ['auto', 'agent', 'ssh'],
    doc: 'How commands reach the guest: `agent` by qemu-guest-agent in the guest, `ssh` by its sshd over a managed network, `auto` by the agent where it is connected and by ssh where not. With `agent` the guest is given no key and no host key.',
    example: '"ssh"',
  },
  user: {
    kind: 'attr',
    type: 'string',
    doc: 'User of the guest that commands run as; root when left out.',
    example: '"www-data"',
  },
  on_sighup: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'Command that runs in the guest on SIGHUP (`nomad alloc signal -s SIGHUP`, or a template with `change_mode = "signal"`). It has 30 s; without one SIGHUP is refused.',
    example: '["systemctl", "reload", "nginx"]',
  },
} as const;

/** How `nomad alloc exec`, script checks and the like run commands in the guest. */
export const exec = {
  field: {
    kind: 'block',
    doc: 'How commands run in the guest, for `nomad alloc exec`, actions, script checks and `change_mode = "script"`. They work without the block as well.',
    fields,
  },
  read: ({ user, via, on_sighup: onHangUp }: Decoded<typeof fields>) => ({
    ...(user ? { user } : {}),
    ...(via === 'agent' || via === 'ssh' ? { via } : {}),
    ...(onHangUp.length > 0 ? { onHangUp } : {}),
  }),
} as const;
