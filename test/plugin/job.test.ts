import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { PluginError } from '../../src/plugin/error/plugin-error.ts';
import { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { invalidTask } from '../../src/plugin/job/invalid-task.ts';
import { planTask, taskSchema } from '../../src/plugin/job/task.ts';
import { vmName } from '../../src/plugin/job/vm-name.ts';
import { diskOn } from '../support/disks.ts';
import { smallest, type TaskInit, task } from './requests.ts';

const context = {
  driverName: 'qmp',
  hostArch: 'x86_64',
  limits: { minMemoryMiB: 500, minDiskMiB: 2000, maxDiskMiB: 100_000, maxConnections: 8192 },
  pools: { pools: [], default: undefined },
} as const;

type Change = TaskInit & { readonly config?: Record<string, unknown> };

const plan = (change: Change = {}) => {
  const config = create(TaskConfigSchema, task(change));
  const { spec, problems } = planTask(config, context);
  if (problems.length > 0) throw invalidTask(config, context, { problems });
  return spec;
};
const config = (more: Record<string, unknown>): Change => ({ config: { ...smallest, ...more } });

const failureText = (change: Change): string => {
  try {
    plan(change);
  } catch (error) {
    assert.ok(error instanceof PluginError);
    return error.message;
  }
  return 'no failure';
};

test('V-18 V-67: the smallest job', () => {
  const spec = plan();
  assert.deepEqual(spec, {
    name: 'web-0123abcd',
    identity: {
      taskId: 'a1b2c3d4-0000-4000-8000-000000000001/web/0123abcd',
      taskName: 'web',
      allocId: 'a1b2c3d4-0000-4000-8000-000000000001',
      groupName: '',
      jobId: '',
      jobName: '',
      namespace: '',
      nodeName: '',
      nodeId: '',
      driverName: 'qmp',
    },
    arch: 'x86_64',
    machine: undefined,
    accelerator: 'auto',
    firmware: 'auto',
    vcpus: 1,
    pinnedCores: [0],
    cpuShares: 500,
    memoryMiB: 512,
    disks: [diskOn('/images/a.raw', 2000, false)],
    nics: [],
    shares: [
      {
        tag: 'allocDir',
        source: '/var/nomad/alloc/a1b2c3d4/alloc',
        target: '/alloc',
        readOnly: true,
      },
      {
        tag: 'localDir',
        source: '/var/nomad/alloc/a1b2c3d4/web/local',
        target: '/local',
        readOnly: true,
      },
      {
        tag: 'secretsDir',
        source: '/var/nomad/alloc/a1b2c3d4/web/secrets',
        target: '/secrets',
        readOnly: true,
      },
    ],
    guest: {
      hostname: 'nomad-web-0123abcd',
      userData: undefined,
      password: undefined,
      authorizedKey: undefined,
      commands: [],
      timezone: undefined,
      env: { NOMAD_TASK_NAME: 'web' },
    },
    allocDir: '/var/nomad/alloc/a1b2c3d4',
    taskDir: '/var/nomad/alloc/a1b2c3d4/web',
    stdoutPath: '/dev/null',
    stderrPath: '/dev/null',
    cgroupPath: '',
  });
});

test('V-18 V-25 D10: every key of a job', () => {
  const spec = plan(
    config({
      use_thin_copy: true,
      primary_disk_size: '10000',
      hostname: 'Web-1',
      user_data: '#cloud-config\n',
      default_user_authorized_ssh_key: 'ssh-ed25519 AAAA',
      default_user_password: 'hush',
      cmds: ['touch /a', 'echo: "b"'],
      cmds_on: 'boot',
      timezone: 'Europe/Berlin',
      accelerator: 'tcg',
      firmware: 'uefi',
      vcpus: 3,
      os: { arch: 'arm64', machine: 'virt' },
      network_interface: [{ bridge: { name: 'virbr0', ports: ['http'] } }],
      watchdog: { action: 'pause' },
      display: { video: 'std', vnc: { password: '12345678' } },
      exec: { via: 'agent', user: 'www-data' },
    }),
  );
  assert.deepEqual(spec.disks, [diskOn('/images/a.raw', 10_000)]);
  assert.equal(spec.arch, 'aarch64');
  assert.equal(spec.machine, 'virt');
  assert.equal(spec.accelerator, 'tcg');
  assert.equal(spec.firmware, 'uefi');
  assert.equal(spec.vcpus, 3);
  assert.deepEqual(spec.watchdog, { action: 'pause' });
  assert.deepEqual(spec.display, { video: 'std', vnc: { password: '12345678', listen: [] } });
  assert.deepEqual(spec.exec, { user: 'www-data', via: 'agent' });
  assert.deepEqual(spec.guest, {
    hostname: 'Web-1',
    userData: { kind: 'inline', text: '#cloud-config\n' },
    password: 'hush',
    authorizedKey: 'ssh-ed25519 AAAA',
    commands: ['touch /a', 'echo: "b"'],
    commandsOn: 'boot',
    timezone: 'Europe/Berlin',
    env: { NOMAD_TASK_NAME: 'web' },
  });
  assert.deepEqual(spec.nics, [
    {
      kind: 'bridge',
      bridge: 'virbr0',
      ports: [{ label: 'http', hostIp: '192.0.2.1', hostPort: 20_080, guestPort: 80 }],
    },
  ]);
});

test('V-72: reserved cores are the vCPUs; resources come from Nomad’s own fields', () => {
  const spec = plan({
    resources: {
      allocatedResources: { memory: { memoryMb: 2048n, memoryMaxMb: 4096n } },
      linuxResources: { cpusetCpus: '4,0-1', cpuShares: 1000n, cpusetCgroup: '/sys/fs/cgroup/x' },
    },
  });
  assert.deepEqual(spec.pinnedCores, [0, 1, 4]);
  assert.equal(spec.vcpus, 3);
  assert.equal(spec.memoryMiB, 2048);
  assert.equal(spec.cgroupPath, '/sys/fs/cgroup/x');
});

interface PortInit {
  readonly label: string;
  readonly value: number;
  readonly to: number;
  readonly hostIp?: string;
}
const ports = (list: PortInit[], labels: string[]): Change => ({
  ...config({ network_interface: [{ bridge: { name: 'virbr0', ports: labels } }] }),
  resources: {
    allocatedResources: { memory: { memoryMb: 512n } },
    linuxResources: { cpusetCpus: '0' },
    ports: list,
  },
});

test('V-115 D19: a port without `to` is the same inside', () => {
  for (const to of [0, -1]) {
    const spec = plan(ports([{ label: 'ssh', value: 20_022, to, hostIp: '' }], ['ssh']));
    assert.deepEqual(spec.nics[0]?.ports, [
      { label: 'ssh', hostIp: '', hostPort: 20_022, guestPort: 20_022 },
    ]);
  }
});

const inline = [
  '#cloud-config',
  '#!/bin/sh',
  'a: b\nc: d',
  'Content-Type: multipart/mixed',
  'MIME-Version: 1.0',
  '## template: jinja',
  '{"ignition":{"version":"3.3.0"}}',
  Buffer.from('#cloud-config\nhostname: x\n').toString('base64'),
  gzipSync('#cloud-config\nhostname: x\n').toString('base64'),
];
const paths = ['I2Nsb3Vk', 'local/user-data', '/etc/x', 'user-data.yml', 'a b', 'C:\\x', 'x: y'];
test('V-61: user data is not checked when the job turns that off', () => {
  const given = { user_data: 'hello\nthere\n', user_data_check: false };
  assert.equal(plan(config(given)).guest.userData?.check, false);
  const { userData } = plan(config({ user_data: 'local/x', user_data_check: false })).guest;
  assert.deepEqual(userData, { kind: 'file', path: 'local/x', check: false });
});

test('V-60: user data is distinguished from a path without guessing', () => {
  for (const text of inline) {
    assert.deepEqual(plan(config({ user_data: text })).guest.userData, { kind: 'inline', text });
  }
  for (const path of paths) {
    assert.deepEqual(plan(config({ user_data: path })).guest.userData, { kind: 'file', path });
  }
});

test('V-126: the group’s name servers and search domains reach the guest', () => {
  const { guest } = plan({ dns: { servers: ['9.9.9.9'], searches: ['example.org'] } });
  assert.deepEqual(guest.dns, { servers: ['9.9.9.9'], searches: ['example.org'] });
});

type Cases = Readonly<Record<string, [change: Change, words: RegExp]>>;

function refused(cases: Cases): void {
  for (const [name, [change, words]] of Object.entries(cases)) {
    assert.match(failureText(change), words, name);
  }
}

test('P-35: what is not supported is refused, never ignored', () =>
  refused({
    'mounts that come and go': [
      { mounts: [{ taskPath: '/data', hostPath: '/srv', propagationMode: 'host-to-task' }] },
      /volume_mount: "\/data" can't have propagation_mode "host-to-task": .*; use "private"/,
    ],
    'labels of the host': [
      { mounts: [{ taskPath: '/data', hostPath: '/srv', selinuxLabel: 'z' }] },
      /volume_mount: "\/data" can't have selinux_label/,
    ],
    'a mount over another': [
      { mounts: [{ taskPath: 'local/', hostPath: '/srv' }] },
      /volume_mount: "\/local" is a mount already/,
    ],
    'a mount over everything': [
      { mounts: [{ taskPath: '/a/..', hostPath: '/srv' }] },
      /volume_mount: "\/" is no directory to mount at/,
    ],
    devices: [
      { devices: [{ hostPath: '/dev/vfio/1' }] },
      /"\/dev\/vfio\/1": devices are not supported/,
    ],
    'a user': [{ user: 'alice' }, /user: "alice"/],
    'resolver options': [
      { dns: { options: ['ndots:2'] } },
      /network\.dns\.options: can not be passed/,
    ],
  }));

test('V-20: too little memory or disk', () =>
  refused({
    'little memory': [
      { resources: { linuxResources: { cpusetCpus: '0' } } },
      /resources\.memory: not enough memory assigned to task/,
    ],
    'a small disk': [
      config({ primary_disk_size: 1999 }),
      /primary_disk_size: not enough disk space assigned to task/,
    ],
    'a disk too large': [
      config({ primary_disk_size: 100_001 }),
      /100001 MB are more than the 100000 allowed/,
    ],
  }));

test('V-21: host names', () =>
  refused({
    'a bad host name': [config({ hostname: '-x' }), /hostname: "-x" must consist of/],
    'a long host name': [config({ hostname: 'x'.repeat(64) }), /less than 64 characters/],
  }));

test('V-22: architectures and machines', () =>
  refused({
    'an empty os': [
      config({ os: { arch: null, machine: '' } }),
      /os: provided os information is incomplete: arch and machine are mandatory/,
    ],
    'an unknown architecture': [
      config({ os: { arch: 'vax' } }),
      /os\.arch: "vax" is not supported; supported are x86_64 and aarch64/,
    ],
    'a prototype as architecture': [
      config({ os: { arch: 'constructor' } }),
      /"constructor" is not supported/,
    ],
    'a machine with options': [config({ os: { machine: 'pc,accel=tcg' } }), /os\.machine/],
  }));

test('V-23: a task that reserves no cores has one CPU, unless it sets another number', () => {
  const resources = { allocatedResources: { memory: { memoryMb: 512n } } };
  assert.equal(plan({ resources, config: { image: '/a' } }).vcpus, 1);
  assert.equal(plan({ resources, config: { image: '/a', vcpus: 2 } }).vcpus, 2);
});

test('V-24 V-124: several interfaces, of which one has the default route', () => {
  const { nics } = plan(
    config({
      network_interface: [
        { bridge: { name: 'a', ports: ['http'] } },
        { bridge: { name: 'b' }, default_route: true },
        { user: { ports: [] } },
      ],
    }),
  );
  const http = { label: 'http', hostIp: '192.0.2.1', hostPort: 20_080, guestPort: 80 };
  assert.deepEqual(nics, [
    { kind: 'bridge', bridge: 'a', ports: [http] },
    { kind: 'bridge', bridge: 'b', ports: [], defaultRoute: true },
    { kind: 'user', ports: [] },
  ]);
});

test('V-124: the card of an interface, and its address', () => {
  const { nics } = plan(
    config({
      network_interface: [
        {
          bridge: { name: 'a' },
          ip: '10.0.0.7',
          mac: '52:54:00:AB:CD:EF',
          model: 'virtio',
          mtu: 1400,
          queues: 4,
          bandwidth_in: '12MB',
          bandwidth_out: '1 MiB',
        },
        { user: {}, model: 'e1000e' },
      ],
    }),
  );
  const bandwidth = { in: 12_000_000, out: 1_048_576 };
  const card = { mac: '52:54:00:ab:cd:ef', mtu: 1400, queues: 4, bandwidth };
  assert.deepEqual(nics, [
    { kind: 'bridge', bridge: 'a', ports: [], ip: '10.0.0.7', ...card },
    { kind: 'user', ports: [], model: 'e1000e' },
  ]);
});

test('V-123: macvtap, its modes and what it does not go with', () => {
  const { nics } = plan(
    config({
      network_interface: [
        { macvtap: { device: 'eno1' } },
        { macvtap: { device: 'eno2', mode: 'passthrough' } },
      ],
    }),
  );
  assert.deepEqual(nics, [
    { kind: 'macvtap', device: 'eno1', mode: 'bridge', ports: [] },
    { kind: 'macvtap', device: 'eno2', mode: 'passthrough', ports: [] },
  ]);
  refused({
    'an unknown mode': [
      config({ network_interface: [{ macvtap: { device: 'eno1', mode: 'warp' } }] }),
      /macvtap has invalid mode "warp"; must be one of: bridge, private, vepa, passthrough/,
    ],
    'without a device': [
      config({ network_interface: [{ macvtap: {} }] }),
      /network_interface\[0\]\.macvtap\.device: is required/,
    ],
    'with a bridge': [
      config({ network_interface: [{ macvtap: { device: 'eno1' }, bridge: { name: 'a' } }] }),
      /network_interface\[0\]: bridge and macvtap are mutually exclusive/,
    ],
  });
});

const card = (key: string, value: unknown): Change =>
  config({ network_interface: [{ bridge: { name: 'a' }, [key]: value }] });

const fixed4 = { prefix: 24, gateway: '192.0.2.1', nameservers: ['192.0.2.53', '2001:db8::53'] };
const fixed6 = { prefix6: 64, gateway6: '2001:DB8::1' };
const given = { ip: '192.0.2.20', ip6: '2001:db8:0::20', ...fixed4, ...fixed6 };

test('V-120: addresses of a network that is not managed, on a bridge and with macvtap', () => {
  const read = {
    ip: given.ip,
    fixed: fixed4,
    ip6: '2001:db8::20',
    fixed6: { prefix: 64, gateway: '2001:db8::1' },
    ports: [],
  };
  const ways = {
    bridge: { block: { bridge: { name: 'br0' } }, spec: { kind: 'bridge', bridge: 'br0' } },
    macvtap: {
      block: { macvtap: { device: 'eno1' } },
      spec: { kind: 'macvtap', device: 'eno1', mode: 'bridge' },
    },
  };
  for (const { block, spec } of Object.values(ways)) {
    const one = (changes: object): Change =>
      config({ network_interface: [{ ...block, ...given, ...changes }] });
    assert.deepEqual(plan(one({})).nics, [{ ...spec, ...read }]);
    const only4 = plan(one({ ip6: null, prefix6: null, gateway6: null, nameservers: [] })).nics;
    const { ip6: _, fixed6: __, ...four } = read;
    assert.deepEqual(only4, [{ ...spec, ...four, fixed: { ...fixed4, nameservers: [] } }]);
    const only6 = plan(
      one({ ip: null, prefix: null, gateway: null, nameservers: ['2001:DB8::53'] }),
    );
    assert.deepEqual(only6.nics, [
      {
        ...spec,
        ip6: read.ip6,
        fixed6: { ...read.fixed6, nameservers: ['2001:db8::53'] },
        ports: [],
      },
    ]);
    // A router of the link may have the address of the link.
    const [near] = plan(one({ gateway6: 'fe80::1' })).nics;
    assert.ok(near?.kind === spec.kind && 'fixed6' in near);
    assert.deepEqual(near.fixed6, { prefix: 64, gateway: 'fe80::1' });
    refused({
      'a gateway elsewhere': [
        one({ gateway: '198.51.100.1', gateway6: '2001:db8:1::1' }),
        /2 problems: .*gateway: 198\.51\.100\.1 is not in the subnet of 192\.0\.2\.20\/24.*gateway6: 2001:db8:1::1 is not in the network of 2001:db8:0::20\/64/,
      ],
      'a gateway that is the guest': [
        one({ gateway: given.ip, gateway6: '2001:db8::20' }),
        /2 problems: .*gateway: .* is the address of the guest.*gateway6: .* is the address of the guest/,
      ],
      'prefixes without addresses': [
        one({ ip: null, ip6: null, nameservers: [] }),
        /2 problems: .*prefix: needs ip.*prefix6: needs ip6/,
      ],
      'no prefix of IPv6': [one({ prefix6: null }), /prefix6: is required with .*6/],
      'IPv6 alone with a name server of IPv4': [
        one({ ip: null, prefix: null, gateway: null }),
        /nameservers\[0\]: "192\.0\.2\.53" is not an IPv6 address/,
      ],
      'IPv6 alone with a gateway of IPv4': [
        one({ ip: null, prefix: null, nameservers: [] }),
        /prefix: is required with gateway/,
      ],
      'one prefix for both': [
        one({ prefix: null, gateway: null, nameservers: [] }),
        /network_interface\[0\]\.prefix: is required with ip, prefix6/,
      ],
      'a gateway that is none': [
        one({ gateway6: '192.0.2.1' }),
        /gateway6: .* not an IPv6 address/,
      ],
      'name servers that are none': [
        one({ nameservers: ['192.0.2.53', 'x'] }),
        /nameservers\[1\]: "x" is not an IP address/,
      ],
      'a name server of IPv6 without such an address': [
        one({ ip6: null, prefix6: null, gateway6: null }),
        /nameservers\[1\]: "2001:db8::53" is not an IPv4 address/,
      ],
    });
  }
  const macvtap = { macvtap: { device: 'eno1' } };
  const bridge = { bridge: { name: 'br0' } };
  const one = (block: object): Change => config({ network_interface: [block] });
  refused({
    'no prefix on a bridge': [
      one({ ...bridge, ...given, prefix: null, prefix6: null, gateway6: null }),
      /prefix: is required with gateway, nameservers/,
    ],
    'no prefixes with macvtap': [
      one({ ...macvtap, ip: given.ip, ip6: given.ip6 }),
      /2 problems: .*\[0\]\.prefix: is required with ip: the driver does not manage this network.*\[0\]\.prefix6: is required with ip6/,
    ],
    'with user': [
      one({ user: {}, ...given }),
      /7 problems: .*\[0\]\.ip: goes with a bridge or macvtap/,
    ],
  });
});

test('V-120: an IPv6 address is read in each of its forms', () => {
  const one = (ip6: string): Change =>
    config({ network_interface: [{ bridge: { name: 'a' }, ip6 }] });
  for (const text of ['fd12::50', 'FD12:0:0::0050', 'fd12:0:0:0:0:0:0:50']) {
    const [nic] = plan(one(text)).nics;
    assert.deepEqual(nic, { kind: 'bridge', bridge: 'a', ports: [], ip6: 'fd12::50' });
  }
  refused({
    'an address that is none': [one('fd12::50/64'), /ip6: "fd12::50\/64" is not an IPv6 address/],
  });
});

test('V-120: an address that no machine in a network has is refused: the host would connect to itself', () => {
  const way = { macvtap: { device: 'eno1' }, prefix: 24, prefix6: 64 };
  const one = (ip: string, ip6: string): Change =>
    config({ network_interface: [{ ...way, ip, ip6 }] });
  const pairs = [
    ['127.0.0.1', '::1'],
    ['0.0.0.0', '::'],
    ['224.0.0.1', 'ff02::1'],
    ['255.255.255.255', '::ffff:127.0.0.1'],
  ] as const;
  refused(
    Object.fromEntries(
      pairs.map(([ip, ip6]) => [
        `${ip} and ${ip6}`,
        [one(ip, ip6), new RegExp(`2 problems: .*\\.ip: ${ip} is not .*\\.ip6: ${ip6} is not `)],
      ]),
    ),
  );
});

test('V-124: cards that can not be', () =>
  refused({
    'a MAC address that is none': [card('mac', '52:54:00'), /\[0\]\.mac: "52:54:00" is not a MAC/],
    'a group address': [card('mac', '01:00:5e:00:00:01'), /mac: .* is a group address/],
    'no card’s address': [card('mac', '00:00:00:00:00:00'), /mac: .* is the address of no card/],
    'the address of the host’s end': [card('mac', 'FE:00:00:00:00:01'), /mac: .* begins with fe/],
    'an address that is none': [card('ip', '10.0.0.256'), /ip: "10\.0\.0\.256" is not an IPv4/],
    'an unknown model': [card('model', 'ne2k'), /model: must be one of virtio, e1000e/],
    'a packet that is none': [card('mtu', 500), /mtu: must be/],
    'a packet that its card does not carry': [
      config({ network_interface: [{ bridge: { name: 'a' }, model: 'rtl8139', mtu: 9000 }] }),
      /\[0\]\.mtu: a card of model rtl8139 carries 1500 bytes/,
    ],
    'a packet too small for the IPv6 address': [
      config({ network_interface: [{ bridge: { name: 'a' }, ip6: 'fd12::50', mtu: 1200 }] }),
      /\[0\]\.ip6: needs an mtu of 1280 or more, not 1200/,
    ],
    'too many queues': [card('queues', 17), /queues: must be/],
    'queues of a card that has one': [
      config({ network_interface: [{ bridge: { name: 'a' }, model: 'rtl8139', queues: 2 }] }),
      /queues: a card of model rtl8139 has one queue/,
    ],
    'what the user-mode network has not': [
      config({ network_interface: [{ user: {}, ip: '10.0.0.7', queues: 2 }] }),
      /ip: goes with a bridge or macvtap: the guest has 10\.0\.2\.15 here; .*queues: the user-mode network has one/,
    ],
    'a bandwidth that is none': [card('bandwidth_in', '12 Mbit'), /bandwidth_in: .* is not a size/],
    'a bandwidth that no host can keep': [
      config({
        network_interface: [{ bridge: { name: 'a' }, bandwidth_in: '1kB', bandwidth_out: '1TB' }],
      }),
      /bandwidth_in: "1kB" is not between 10kB and 10GB.*bandwidth_out: "1TB" is not between/,
    ],
    'a bandwidth of the user-mode network': [
      config({ network_interface: [{ user: {}, bandwidth_out: '1MB' }] }),
      /bandwidth_out: QEMU limits no user-mode network: use a bridge, macvtap or group/,
    ],
    'one MAC address twice': [
      config({
        network_interface: [
          { bridge: { name: 'a' }, mac: '52:54:00:00:00:0a' },
          { bridge: { name: 'b' }, mac: '52:54:00:00:00:0A' },
        ],
      }),
      /network_interface\[1\]\.mac: is that of network_interface\[0\]/,
    ],
  }));

test('V-124: interfaces that do not go together, all reported at once', () =>
  refused({
    'two default routes': [
      config({
        network_interface: [
          { bridge: { name: 'a' }, default_route: true },
          { bridge: { name: 'b' } },
          { bridge: { name: 'c' }, default_route: true },
        ],
      }),
      /: network_interface\[2\]\.default_route: only one interface can have the default route$/,
    ],
    'two user-mode networks, and more': [
      config({
        network_interface: [
          { user: { ports: ['http'] } },
          { user: {}, bridge: { name: 'a', ports: ['http'] } },
          {},
        ],
      }),
      new RegExp(
        [
          /: 4 problems: network_interface\[1\]: bridge and user are mutually exclusive; /,
          /network_interface\[1\]\.bridge\.ports\[0\]: the port "http" is in network_interface\[0\]\.user\.ports already; /,
          /network_interface\[2\]\.bridge: is required, or macvtap, user or group in its place; /,
          /network_interface\[1\]\.user: only one interface can be in the user-mode network$/,
        ]
          .map(({ source }) => source)
          .join(''),
      ),
    ],
  }));

test('V-26: ports that are none', () =>
  refused({
    'an unknown port': [
      config({ network_interface: [{ bridge: { name: 'a', ports: ['ssh'] } }] }),
      /ports\[0\]: no port is labelled "ssh"; there are http/,
    ],
    'a port out of range': [
      ports([{ label: 'x', value: 80, to: 70_000 }], ['x']),
      /80 to 70000 are not ports/,
    ],
  }));

test('D24: an interface without a bridge', () =>
  refused({
    'an interface of nothing': [
      config({ network_interface: [{ bridge: null }] }),
      /network_interface\[0\]\.bridge: is required/,
    ],
  }));

test('other values that are refused', () =>
  refused({
    'no image': [config({ image: null }), /image: image path can not be empty/],
    'a bridge without a name': [
      config({ network_interface: [{ bridge: { name: '' } }] }),
      /network interface bridge '0' requires name parameter/,
    ],
    'an unknown accelerator': [
      config({ accelerator: 'warp' }),
      /accelerator: must be one of auto, kvm, tcg/,
    ],
    'no vCPUs': [config({ vcpus: 0 }), /vcpus: must be at least 1/],
    'a time zone that is not there': [
      config({ timezone: 'Mars/Olympus' }),
      /timezone: "Mars\/Olympus" is not a name from the tz database, such as "Europe\/Berlin"/,
    ],
    'an odd cpuset': [
      { resources: { linuxResources: { cpusetCpus: '3-1' } } },
      /"3-1" is not a list of cores/,
    ],
    'no task name': [{ name: '' }, /virtual machine name can not be empty/],
  }));

test('every key of other drivers is answered with what to write, all at once, and is in docs/migrating.md', () => {
  const keys = Object.entries(taskSchema).flatMap(([key, { kind }]) =>
    kind === 'instead' ? [key] : [],
  );
  const expected =
    'args authorized_ssh_key command drive_interface emulator graceful_shutdown guest_agent image_path machine_type password port_map';
  assert.deepEqual(keys.toSorted(), expected.split(' '));
  const words = failureText(config(Object.fromEntries(keys.map((key) => [key, ['-m', '1']]))));
  const guide = readFileSync(join(import.meta.dirname, '../../docs/migrating.md'), 'utf8');
  for (const key of keys) {
    assert.match(words, new RegExp(`${key}: is not a key of this driver: (use \`|leave it out, )`));
    assert.match(guide, new RegExp(`^\\| \`${key}\` .*error|^\\| \`${key}\` .*Refused`, 'm'));
  }
  assert.match(words, /port_map: [^;]*`network_interface \{ bridge \{ ports = \["http"\] \} \}`/);
  assert.match(words, /emulator: [^;]*`os \{ arch = "x86_64" \}`/);
});

test('V-19: everything wrong is reported at once, with the allocation', () => {
  const words = failureText({
    config: { hostname: '!', accelerator: 'warp', primary_disk_size: 1 },
    user: 'me',
  });
  assert.ok(
    words.startsWith(
      'qmp: invalid configuration a1b2c3d4-0000-4000-8000-000000000001: 5 problems: ',
    ),
  );
  for (const path of ['hostname', 'accelerator', 'user', 'image', 'primary_disk_size']) {
    assert.ok(words.includes(`${path}: `), path);
  }
});

test('a value of the wrong type is reported once', () => {
  const words = failureText(config({ image: 7 }));
  assert.equal(words.match(/image: /g)?.length, 1);
});

test('V-9 P-12: a task of nothing is refused, not a crash', () => {
  const nothing = create(TaskConfigSchema, {});
  const { problems } = planTask(nothing, context);
  assert.ok(problems.length > 2);
  assert.ok(invalidTask(nothing, context, { problems }) instanceof PluginError);
});

const names: Readonly<Record<string, string>> = {
  'a/web/0123abcd': 'web-0123abcd',
  'a/web-1/0123abcd': 'web-1-0123abcd',
  [`a/${'x'.repeat(47)}/0123abcd`]: `${'x'.repeat(47)}-0123abcd`,
};
for (const [id, name] of Object.entries(names)) {
  test(`V-28: the VM of ${id}`, () => assert.equal(vmName(id), name));
}

test('V-21 V-28 P-25: any name gives a safe VM name, another name another one, and a host name', () => {
  const id = fc.tuple(
    fc.uuid(),
    fc.string({ unit: 'grapheme', maxLength: 150 }),
    fc.stringMatching(/^[0-9a-f]{8}$/),
  );
  fc.assert(
    fc.property(id, fc.string({ unit: 'grapheme', maxLength: 20 }), ([alloc, name, hex], other) => {
      const vm = vmName(`${alloc}/${name}/${hex}`);
      assert.match(vm, /^[a-z0-9][a-z0-9-]{0,55}$/);
      assert.match(`nomad-${vm}`.slice(0, 63), /^[a-z0-9-]*[a-z0-9]$/);
      if (other !== name) assert.notEqual(vmName(`${alloc}/${other}/${hex}`), vm);
    }),
    { numRuns: 1000 },
  );
});

/** A job with a display, where the group has the port `vnc` on this address. */
const display = (vnc: Record<string, unknown>, hostIp = '192.0.2.1'): Change => ({
  resources: {
    allocatedResources: { memory: { memoryMb: 512n } },
    ports: [{ label: 'vnc', value: 25_900, to: 0, hostIp }],
  },
  config: { ...smallest, display: { vnc } },
});

test('V-83: a display has a port with a password, or on a loopback address', () => {
  const listen = [{ label: 'vnc', hostIp: '192.0.2.1', hostPort: 25_900 }];
  const { display: shown } = plan(display({ port: 'vnc', password: 'hush' }));
  assert.deepEqual(shown, { video: 'virtio', vnc: { password: 'hush', listen } });
  for (const hostIp of ['127.0.0.1', '127.1.2.3', '::1']) {
    const { display: shown } = plan(display({ port: 'vnc' }, hostIp));
    assert.deepEqual(shown?.vnc, { listen: [{ label: 'vnc', hostIp, hostPort: 25_900 }] });
  }
  assert.deepEqual(plan(display({})).display, { video: 'virtio', vnc: { listen: [] } });
  assert.deepEqual(plan(config({ display: { video: 'std' } })).display, { video: 'std' });
});

test('V-83: what can not be a display', () =>
  refused({
    'a port for everyone': [
      display({ port: 'vnc' }),
      /display\.vnc\.password: is required: the port "vnc" is on 192\.0\.2\.1; set it, or use a host_network with a loopback/,
    ],
    'a port on every address': [
      display({ port: 'vnc', password: '' }, ''),
      /display\.vnc\.password: is required: the port "vnc" is on every address of the host/,
    ],
    'an unknown port': [
      display({ port: 'screen', password: 'hush' }),
      /display\.vnc\.port: no port is labelled "screen"; there are vnc/,
    ],
    'a port that is forwarded': [
      {
        ...display({}),
        config: {
          ...smallest,
          display: { vnc: { port: 'vnc', password: 'hush' } },
          network_interface: [{ bridge: { name: 'virbr0', ports: ['vnc'] } }],
        },
      },
      /display\.vnc\.port: "vnc" is forwarded to the guest already; use another port/,
    ],
    'a long password': [
      display({ port: 'vnc', password: '123456789' }),
      /display\.vnc\.password: has 9 characters, of which the VNC protocol uses 8; write 8 or fewer/,
    ],
    'a password of other letters': [
      display({ port: 'vnc', password: 'grün' }),
      /display\.vnc\.password: must consist of ASCII characters/,
    ],
    'nothing to show': [
      config({ display: { video: 'none', vnc: {} } }),
      /display\.vnc: has nothing to show with video = "none"/,
    ],
  }));

test('V-83: a password of a display is in no message', () => {
  for (const password of ['a-long-password', 'grüße']) {
    assert.ok(!failureText(display({ port: 'x', password })).includes(password));
  }
});
