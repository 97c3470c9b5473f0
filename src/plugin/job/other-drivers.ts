import type { Fields } from '../hcl/schema.ts';

/** Keys of Nomad's other drivers that run a program, each with what to write here; docs/migrating.md has them too. */
export const otherDriverFields = {
  args: {
    kind: 'instead',
    use: '`vcpus`, `network_interface`, `disk`, `user_data`, `firmware`, `watchdog`: no text of a job reaches the command line of QEMU; docs/migrating.md lists what replaces each argument',
  },
  command: { kind: 'instead', use: '`cmds`, commands that cloud-init runs in the guest' },
  emulator: { kind: 'instead', use: '`os { arch = "x86_64" }` or `"aarch64"`' },
  machine_type: { kind: 'instead', use: '`os { machine }`' },
  port_map: {
    kind: 'instead',
    use: '`network_interface { bridge { ports = ["http"] } }`, and `to` in the `port "http"` of the group',
  },
  graceful_shutdown: {
    kind: 'instead',
    needless: 'every stop is graceful for the time of `kill_timeout`',
  },
  guest_agent: {
    kind: 'instead',
    needless: 'every guest has the port of the guest agent',
  },
  // Of examples from before the first release of nomad-driver-virt.
  password: { kind: 'instead', use: '`default_user_password`' },
  authorized_ssh_key: { kind: 'instead', use: '`default_user_authorized_ssh_key`' },
} as const satisfies Fields;
