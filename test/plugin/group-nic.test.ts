import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import { smallest, type TaskInit, task } from './requests.ts';

const context = {
  driverName: 'virt',
  hostArch: 'x86_64',
  limits: { minMemoryMiB: 500, minDiskMiB: 2000, maxDiskMiB: 100_000, maxConnections: 8192 },
  pools: { pools: [], default: undefined },
} as const;

const netns = '/var/run/netns/a1b2c3d4';
const shared: TaskInit = { networkIsolationSpec: { mode: 1, path: netns } };
const ports = [
  { label: 'http', value: 20_080, to: 80, hostIp: '192.0.2.1' },
  { label: 'same', value: 20_081, to: 0, hostIp: '192.0.2.1' },
  { label: 'connect-proxy-web', value: 20_082, to: -1, hostIp: '192.0.2.1' },
  { label: 'svc_web_ck_a1b2c3', value: 20_083, to: -1, hostIp: '192.0.2.1' },
];

function planned(change: TaskInit, interfaces?: readonly object[]) {
  const network_interface = interfaces;
  const config = { ...smallest, ...(network_interface && { network_interface }) };
  const resources = { allocatedResources: { memory: { memoryMb: 512n } }, ports };
  const { spec, problems } = planTask(
    create(TaskConfigSchema, task({ resources, ...change, config })),
    context,
  );
  return { nics: spec.nics, problems: problems.map(({ path, text }) => `${path}: ${text}`) };
}

const http = { label: 'http', hostIp: '192.0.2.1', hostPort: 20_080, guestPort: 80 };
const same = { label: 'same', hostIp: '192.0.2.1', hostPort: 20_081, guestPort: 20_081 };

test('V-125: a job without interfaces has one in the network of its group, with all ports but those of proxies', () => {
  assert.deepEqual(planned(shared), {
    nics: [{ kind: 'group', netns, ports: [http, same] }],
    problems: [],
  });
});

test('V-83 V-125: the port of a display is open in the network of the group, with a password, and leads to no guest', () => {
  const shown = (vnc: object) => {
    const resources = { allocatedResources: { memory: { memoryMb: 512n } }, ports };
    const config = { ...smallest, display: { vnc: { port: 'http', ...vnc } } };
    const { spec, problems } = planTask(
      create(TaskConfigSchema, task({ resources, ...shared, config })),
      context,
    );
    return { spec, problems: problems.map(({ path, text }) => `${path}: ${text}`) };
  };
  const { spec, problems } = shown({ password: 'hush' });
  assert.deepEqual(problems, []);
  assert.deepEqual(spec.nics, [{ kind: 'group', netns, ports: [same] }]);
  assert.deepEqual(spec.display?.vnc?.listen, [
    { label: 'http', hostIp: '192.0.2.1', hostPort: 20_080, inGroup: { netns, port: 80 } },
  ]);
  assert.deepEqual(shown({}).problems, [
    'display.vnc.password: is required: the port "http" is in the network of the group, which others reach; set it',
  ]);
});

test('V-125: a group that uses the network of the host gives no interface', () => {
  const none: TaskInit = { networkIsolationSpec: { mode: 0, path: '' } };
  for (const change of [{}, none]) {
    assert.deepEqual(planned(change), { nics: [], problems: [] });
  }
});

test('V-125: an interface lists its ports of the group, beside another one on a bridge', () => {
  const interfaces = [{ group: { ports: ['http'] } }, { bridge: { name: 'br0' } }];
  assert.deepEqual(planned(shared, interfaces), {
    nics: [
      { kind: 'group', netns, ports: [http] },
      { kind: 'bridge', bridge: 'br0', ports: [] },
    ],
    problems: [],
  });
});

const refused: Readonly<Record<string, readonly [TaskInit, readonly object[], readonly RegExp[]]>> =
  {
    'without a network of the group': [
      {},
      [{ group: { ports: ['http'] } }],
      [/^network_interface\[0\]\.group: the group has no network of its own: give it network \{/],
    ],
    'two interfaces in it': [
      shared,
      [{ group: {} }, { group: {} }],
      [/^network_interface\[1\]\.group: only one interface can be in the network of the group$/],
    ],
    'two kinds at once': [
      shared,
      [{ group: {}, bridge: { name: 'br0' } }],
      [/^network_interface\[0\]: bridge and group are mutually exclusive$/],
    ],
    'ports of the group that are to lead elsewhere': [
      shared,
      [{ bridge: { name: 'br0', ports: ['http'] } }, { user: { ports: ['same'] } }],
      [
        /^network_interface\[0\]\.bridge\.ports: "http" leads to the network of the group: list it in/,
        /^network_interface\[1\]\.user\.ports: "same" leads to the network of the group/,
      ],
    ],
    'an unknown port': [
      shared,
      [{ group: { ports: ['ssh'] } }],
      [
        /^network_interface\[0\]\.group\.ports\[0\]: no port is labelled "ssh"; there are http, same, /,
      ],
    ],
    'a network that the driver would have to make': [
      { networkIsolationSpec: { mode: 2, path: '' } },
      [],
      [/^network: the group network mode "driver" is not supported/],
    ],
  };
for (const [name, [change, interfaces, expected]] of Object.entries(refused)) {
  test(`V-125: refused: ${name}`, () => {
    const { problems } = planned(change, interfaces);
    assert.equal(problems.length, expected.length, problems.join('\n'));
    for (const [at, pattern] of expected.entries()) assert.match(problems[at] ?? '', pattern);
  });
}
