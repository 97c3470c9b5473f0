import type { Fields } from './schema.ts';

/** `plugin "nomad-driver-qmp" { config { … } }` in the agent's configuration. */
export const pluginSchema = {
  data_dir: {
    kind: 'attr',
    type: 'string',
    default: '/var/lib/virt',
    doc: 'Where the driver keeps what belongs to its VMs: one directory per VM, and its networks. An absolute path; made when it is missing. Images below it may be used by every job.',
    example: '"/opt/nomad/virt"',
  },
  image_paths: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: "Directories whose files jobs may use as disk images, beside data_dir and the allocation's own directory. Absolute paths.",
    example: '["/var/local/images"]',
  },
  run_dir: {
    kind: 'attr',
    type: 'string',
    default: '/run/nomad-driver-qmp',
    doc: 'Where the sockets of running VMs are. An absolute path of at most 60 bytes, because socket paths are short.',
    example: '"/run/nomad-driver-qmp"',
  },
  log_level: {
    kind: 'attr',
    type: 'string',
    default: 'info',
    oneOf: ['trace', 'debug', 'info', 'warn', 'error'],
    doc: 'The least severe log lines that are sent to the agent, which filters by its own log_level once more.',
    example: '"debug"',
  },
  emulator: {
    kind: 'block',
    doc: 'Accepted so that configurations written for a libvirt driver keep working. There is no libvirt here: QEMU is started on this host by the driver itself.',
    fields: {
      uri: {
        kind: 'attr',
        type: 'string',
        default: 'qemu:///system',
        doc: 'Only names of the local QEMU are accepted: `qemu:///system`, `qemu:///session`, `qemu:///default` or an empty string. None of them changes anything.',
        example: '"qemu:///system"',
      },
      user: {
        kind: 'attr',
        type: 'string',
        doc: 'Accepted and not used: nothing asks for it.',
        example: '"nomad"',
      },
      password: {
        kind: 'attr',
        type: 'string',
        doc: 'Accepted and not used: nothing asks for it.',
        example: '"secret"',
      },
    },
  },
  limits: {
    kind: 'block',
    doc: 'The smallest and largest things a job may ask for.',
    fields: {
      min_memory_mb: {
        kind: 'attr',
        type: 'number',
        default: 500,
        min: 1,
        max: 1_048_576,
        doc: 'Least memory of a task, in MiB.',
        example: '128',
      },
      min_disk_mb: {
        kind: 'attr',
        type: 'number',
        default: 2000,
        min: 1,
        max: 1_073_741_824,
        doc: 'Least size of the primary disk, in MiB.',
        example: '64',
      },
      max_disk_mb: {
        kind: 'attr',
        type: 'number',
        default: 2_097_152,
        min: 1,
        max: 1_073_741_824,
        doc: 'Largest virtual size of an image or a disk, in MiB.',
        example: '102400',
      },
    },
  },
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
  managed_network: {
    kind: 'block-list',
    doc: 'A network the driver makes when the first VM asks for its bridge: the bridge, its address, translation to the outside, and addresses for VMs. Without this block there is one: bridge `virbr0`, `192.168.122.1/24`. Bridges that exist already need no block.',
    fields: {
      bridge: {
        kind: 'attr',
        type: 'string',
        required: true,
        doc: 'Name of the bridge, at most 15 letters, digits, dots, dashes and underscores; what a job writes in `network_interface { bridge { name } }`.',
        example: '"virbr0"',
      },
      address: {
        kind: 'attr',
        type: 'string',
        required: true,
        doc: 'IPv4 address of the host on it, with its prefix length (8 to 29). Networks must not overlap.',
        example: '"192.168.122.1/24"',
      },
      nameservers: {
        kind: 'attr',
        type: 'list(string)',
        default: [],
        doc: "IPv4 name servers that VMs are told of. Default: the host's.",
        example: '["9.9.9.9"]',
      },
    },
  },
} as const satisfies Fields;

/** `task { config { … } }` of a job. */
export const taskSchema = {
  image: {
    kind: 'attr',
    type: 'string',
    doc: 'The disk image to boot from: raw or qcow2. An absolute path below image_paths, data_dir or the allocation directory, or a path relative to the task directory, such as an artifact in `local/`. Needed.',
    example: '"local/debian-12.qcow2"',
  },
  primary_disk_size: {
    kind: 'attr',
    type: 'number',
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    doc: 'Size of the primary disk in MiB, at least that of the image. Needed.',
    example: '10000',
  },
  use_thin_copy: {
    kind: 'attr',
    type: 'bool',
    default: false,
    doc: 'true: the disk is an overlay that only holds what differs from the image. false: the disk is a private copy of the image. The image is never written to.',
    example: 'true',
  },
  hostname: {
    kind: 'attr',
    type: 'string',
    doc: 'Host name of the guest: letters, digits and dashes, at most 63. Default: `nomad-` and the name of the VM.',
    example: '"web-1"',
  },
  user_data: {
    kind: 'attr',
    type: 'string',
    doc: 'User data for cloud-init: the text itself when it starts with `#`, looks like a MIME header or has more than one line, else the path of a file below image_paths, data_dir or the allocation directory.',
    example: '"local/user-data.yml"',
  },
  default_user_authorized_ssh_key: {
    kind: 'attr',
    type: 'string',
    doc: "An SSH public key for the image's default user.",
    example: '"ssh-ed25519 AAAA… me@example"',
  },
  default_user_password: {
    kind: 'attr',
    type: 'string',
    doc: "Password of the image's default user.",
    example: '"change-me"',
  },
  cmds: {
    kind: 'attr',
    type: 'list(string)',
    default: [],
    doc: 'Shell commands that cloud-init runs at the end of the first boot.',
    example: '["touch /home/debian/started"]',
  },
  timezone: {
    kind: 'attr',
    type: 'string',
    doc: "The guest's time zone, a name from the tz database as spelled there.",
    example: '"Europe/Berlin"',
  },
  accelerator: {
    kind: 'attr',
    type: 'string',
    default: 'auto',
    oneOf: ['auto', 'kvm', 'tcg'],
    doc: '`kvm` needs a host where KVM works, `tcg` is slow and works everywhere, `auto` takes KVM where it works.',
    example: '"tcg"',
  },
  firmware: {
    kind: 'attr',
    type: 'string',
    default: 'auto',
    oneOf: ['auto', 'bios', 'uefi'],
    doc: 'What the machine starts with. `auto` takes UEFI for disks that can start in no other way.',
    example: '"uefi"',
  },
  vcpus: {
    kind: 'attr',
    type: 'number',
    min: 1,
    max: 512,
    doc: 'Number of virtual CPUs. Default: as many as `resources.cores` reserves; needed when it reserves none.',
    example: '2',
  },
  os: {
    kind: 'block',
    doc: 'The machine to be. When the block is there, at least one of the two must be.',
    fields: {
      arch: {
        kind: 'attr',
        type: 'string',
        doc: "Architecture: `x86_64` (or `amd64`), `aarch64` (or `arm64`). Default: the host's.",
        example: '"x86_64"',
      },
      machine: {
        kind: 'attr',
        type: 'string',
        doc: 'QEMU machine type. Default: `q35` on x86_64, `virt` on aarch64.',
        example: '"q35"',
      },
    },
  },
  network_interface: {
    kind: 'block-list',
    doc: 'A network interface of the guest; at most one. Without it the guest has none.',
    fields: {
      bridge: {
        kind: 'block',
        doc: 'The host bridge the interface is on. Needed.',
        fields: {
          name: {
            kind: 'attr',
            type: 'string',
            required: true,
            doc: 'Name of the bridge: a managed network, or any bridge that exists on the host.',
            example: '"virbr0"',
          },
          ports: {
            kind: 'attr',
            type: 'list(string)',
            default: [],
            doc: "Labels of the group's `network { port }` blocks that are to reach this guest, TCP and UDP. The port inside is `to`, or the same as outside when `to` is not set.",
            example: '["http"]',
          },
        },
      },
    },
  },
} as const satisfies Fields;
