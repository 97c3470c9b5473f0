import { sectorImage } from '../test/support/images.ts';

/** `whole`: what every real job has. `small`: the minimum, to show where time is spent. */
export type JobKind = 'whole' | 'small';

const common = {
  primary_disk_size: 64,
  use_thin_copy: true,
  accelerator: 'tcg',
  vcpus: 1,
} as const;

const userData = `#cloud-config
package_update: true
packages: [nginx, curl]
users:
  - name: operator
    groups: [sudo]
    shell: /bin/bash
    ssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbenchbenchbenchbenchbenchbenchbenchbench bench]
write_files:
  - path: /etc/nginx/conf.d/site.conf
    permissions: '0644'
    content: |
      server {
        listen 80;
        location / { root /local/www; }
      }
runcmd:
  - [systemctl, enable, --now, nginx]
`;

/** The task's configuration as a job writes it. */
export function taskConfig(kind: JobKind): Readonly<Record<string, unknown>> {
  const config = { ...common, image: sectorImage(0) };
  if (kind === 'small') return config;
  return {
    ...config,
    hostname: 'bench',
    user_data: userData,
    // The network that exists without a configuration.
    network_interface: [{ bridge: { name: 'virbr0', ports: ['http', 'ssh'] } }],
  };
}

/** Directories of the allocation that Nomad makes; those of a whole job are shared with the guest. */
export function allocationDirectories(kind: JobKind): readonly string[] {
  return kind === 'whole' ? ['alloc', 'vm/local', 'vm/secrets'] : ['vm'];
}

/** Two ports on the address that scripts/isolated.sh gives the host. */
export function publishedPorts(first: number) {
  return [
    { label: 'http', value: first, to: 80, hostIp: '192.0.2.2' },
    { label: 'ssh', value: first + 1, to: 22, hostIp: '192.0.2.2' },
  ];
}
