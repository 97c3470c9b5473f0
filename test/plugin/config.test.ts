import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { decodePluginConfig, pluginSchema } from '../../src/plugin/agent/config.ts';
import { PluginError } from '../../src/plugin/error/plugin-error.ts';
import type { Spec } from '../../src/plugin/gen/hclspec_pb.ts';
import { hclSpec } from '../../src/plugin/hcl/hcl-spec.ts';
import { taskSchema } from '../../src/plugin/job/task.ts';

const plugin = (config: unknown) => decodePluginConfig(encode(config), 'qmp');

const failureText = (config: unknown): string => {
  try {
    plugin(config);
  } catch (error) {
    assert.ok(error instanceof PluginError);
    assert.equal(error.code, 'invalid');
    return error.message;
  }
  return 'no failure';
};

test('P-16: no bytes, nil, and an empty block are all the defaults', () => {
  const expected = {
    dataDir: '/var/lib/virt',
    runDir: '/run/nomad-driver-qmp',
    imagePaths: [],
    logLevel: 'info',
    uidRange: { min: 1_900_000_000, max: 1_900_065_535 },
    managedNetworks: [{ bridge: 'virbr0', address: '192.168.122.1', prefix: 24, address6: 'auto' }],
    bridges: [],
    macvtapDevices: [],
    limits: { minMemoryMiB: 64, minDiskMiB: 1, maxDiskMiB: 2_097_152, maxConnections: 8192 },
    storagePools: { pools: [], default: undefined },
    imageStoreMaxBytes: 50 * 1024 ** 3,
    builtin: { args: [], emulators: [], bridge: 'virbr0' },
    warning: undefined,
  };
  assert.deepEqual(decodePluginConfig(new Uint8Array(), 'qmp'), expected);
  for (const config of [
    null,
    {},
    { emulator: null, image_paths: null, managed_network: [], provider: {} },
  ]) {
    assert.deepEqual(plugin(config), expected);
  }
});

test('V-2 V-4 V-5 V-20 P-16: every key, and unknown ones are ignored', () => {
  const config = plugin({
    data_dir: '/opt/virt',
    run_dir: '/run/x',
    image_paths: ['/images', '/more'],
    log_level: 'debug',
    emulator: { uri: 'qemu:///system', user: 'me', password: 'secret' },
    limits: { min_memory_mb: '64', min_disk_mb: 10, max_disk_mb: null, max_connections: 500 },
    bridges: ['br0', 'br-lan'],
    macvtap_devices: ['eno1.7'],
    uid_range: { min: 5000, max: 5001 },
    managed_network: [
      {
        ...{ bridge: 'nq0', address: '10.0.0.1/16', nameservers: ['10.0.0.53'], dns: false },
        address6: 'off',
      },
      { bridge: 'nq1', address: '10.1.0.1/24', nameservers: null, domain: 'lan.internal' },
      {
        ...{ bridge: 'nq2', address: '10.2.0.1/24', isolate: true, nat: false, dhcp: false },
        ...{ mtu: '9000', allow_host_ports: ['tcp/8500', '123'], address6: 'fd00:1::1/64' },
      },
    ],
    provider: { libvirt: { uri: '', user: 'me', allow_insecure_readonly_mounts: true } },
    storage_pools: { directory: { local: { path: '/srv/pool/' } } },
    image_store: { max_size: '1TB' },
    from_the_future: { a: [1] },
  });
  assert.deepEqual(config, {
    dataDir: '/opt/virt',
    runDir: '/run/x',
    imagePaths: ['/images', '/more'],
    logLevel: 'debug',
    uidRange: { min: 5000, max: 5001 },
    managedNetworks: [
      { bridge: 'nq0', address: '10.0.0.1', prefix: 16, nameservers: ['10.0.0.53'], dns: false },
      {
        ...{ bridge: 'nq1', address: '10.1.0.1', prefix: 24, domain: 'lan.internal' },
        address6: 'auto',
      },
      {
        ...{ bridge: 'nq2', address: '10.2.0.1', prefix: 24, isolate: true, nat: false },
        address6: 'fd00:1::1/64',
        ...{ dhcp: false, mtu: 9000, hostPorts: ['tcp/8500', '123'] },
      },
    ],
    bridges: ['br0', 'br-lan'],
    macvtapDevices: ['eno1.7'],
    limits: { minMemoryMiB: 64, minDiskMiB: 10, maxDiskMiB: 2_097_152, maxConnections: 500 },
    storagePools: {
      pools: [{ kind: 'directory', name: 'local', path: '/srv/pool' }],
      default: 'local',
    },
    imageStoreMaxBytes: 10 ** 12,
    builtin: { args: [], emulators: [], bridge: 'nq0' },
    warning:
      'emulator and provider in the plugin configuration: no effect, this driver works without libvirt',
  });
});

test('V-103: figures are served on a socket or on the loopback', () => {
  const places = {
    'unix:/run/x/metrics.sock': { kind: 'unix', path: '/run/x/metrics.sock' },
    '127.0.0.1:9177': { kind: 'tcp', host: '127.0.0.1', port: 9177 },
    '[::1]:9177': { kind: 'tcp', host: '::1', port: 9177 },
  };
  for (const [listen, place] of Object.entries(places)) {
    assert.deepEqual(plugin({ metrics: { listen } }).metrics, place);
  }
  const others = [
    '',
    '9177',
    ':9177',
    '0.0.0.0:9177',
    '192.0.2.1:9177',
    'localhost:9177',
    '::1:80',
  ];
  for (const listen of [
    ...others,
    '127.0.0.1:0',
    '127.0.0.1:70000',
    'unix:run',
    'unix:/'.padEnd(120, 'x'),
  ]) {
    const text = failureText({ metrics: { listen } });
    assert.match(text, /metrics\.listen: .*(is no place on this host: write|is required)/, listen);
  }
});

test('D11: a libvirt that is not this host is refused by key; the local names are fine', () => {
  for (const uri of ['qemu:///system', 'qemu:///session', 'qemu:///default', '']) {
    plugin({ emulator: { uri } });
    // Posted as JSON, a block may be a list of one.
    plugin({ emulator: [{ uri }] });
  }
  for (const uri of ['qemu+ssh://root@other/system', 'xen:///', 'test:///default']) {
    assert.match(failureText({ emulator: { uri } }), /emulator\.uri: .*starts QEMU itself/);
    const text = failureText({ provider: { libvirt: { uri } } });
    assert.match(text, /provider\.libvirt\.uri: .*starts QEMU itself/);
  }
  assert.match(
    failureText({ provider: { hyperv: null } }),
    /provider\.hyperv: is not known; the only provider accepted is "libvirt"/,
  );
});

const wrong: Readonly<Record<string, [config: unknown, words: RegExp]>> = {
  'a relative data_dir': [{ data_dir: 'virt' }, /data_dir: must be an absolute path/],
  'a relative image path': [{ image_paths: ['/a', 'b'] }, /image_paths\[1\]: must be an absolute/],
  'a long run_dir': [{ run_dir: `/${'x'.repeat(60)}` }, /run_dir: must be at most 60 bytes/],
  'a run_dir among the VMs': [
    { data_dir: '/d', run_dir: '/d/./vms' },
    /run_dir: must not be in \/d\/vms, where the driver keeps other things/,
  ],
  'a run_dir below the user ids': [
    { data_dir: '/d/', run_dir: '/d/uids/x' },
    /run_dir: must not be in \/d\/uids/,
  ],
  'a run_dir in disguise among the networks': [
    { data_dir: '/d', run_dir: '/x/../d//networks/virbr0/' },
    /run_dir: must not be in \/d\/networks/,
  ],
  'an unknown log level': [{ log_level: 'loud' }, /log_level: must be one of trace, debug, info/],
  'a number for text': [{ data_dir: 7 }, /data_dir: must be text, not the number 7/],
  'text for a list': [{ image_paths: '/a' }, /image_paths: must be a list/],
  'a list of numbers': [{ image_paths: [1] }, /image_paths\[0\]: must be text/],
  'a NUL': [{ data_dir: '/a\0b' }, /data_dir: must not hold a NUL/],
  'text for a block': [{ limits: 'x' }, /limits: must be a block/],
  'two blocks for one': [{ limits: [{}, {}] }, /limits: may be specified only once/],
  'text for a number': [{ limits: { min_disk_mb: 'x' } }, /limits\.min_disk_mb: must be a number/],
  'a fraction': [{ limits: { min_disk_mb: 1.5 } }, /min_disk_mb: must be a whole number, not 1\.5/],
  'more than is counted exactly': [
    { limits: { min_disk_mb: 2 ** 53 } },
    /min_disk_mb: must be at most \d+, not 9007199254740992$/,
  ],
  'a fraction as text': [{ limits: { min_disk_mb: '0.1' } }, /must be a whole number, not 0\.1/],
  'a number too small': [{ limits: { min_memory_mb: 0 } }, /min_memory_mb: must be at least 1/],
  'a number too large': [{ limits: { min_memory_mb: 1e9 } }, /min_memory_mb: must be at most/],
  'no name for a device': [
    { macvtap_devices: ['eno1', '../x'] },
    /macvtap_devices\[1\]: "\.\.\/x" is not the name of a network device/,
  ],
  'no name for a bridge': [{ bridges: ['br0', 'br:1'] }, /bridges\[1\]: "br:1" is not a name/],
  'hardly any connections': [
    { limits: { max_connections: 1 } },
    /limits\.max_connections: must be at least 16/,
  ],
  'root among the ids': [{ uid_range: { min: 0, max: 9 } }, /uid_range\.min: must be at least 1/],
  'ids upside down': [{ uid_range: { min: 9, max: 8 } }, /uid_range\.max: must not be less/],
  'a bridge without a name': [
    { managed_network: [{ address: '10.0.0.1/24' }] },
    /managed_network\[0\]\.bridge: is required/,
  ],
  'a long bridge name': [
    { managed_network: [{ bridge: 'x'.repeat(16), address: '10.0.0.1/24' }] },
    /bridge: "x+" is not a name/,
  ],
  'one bridge twice': [
    {
      managed_network: [
        { bridge: 'a', address: '10.0.0.1/24' },
        { bridge: 'a', address: '10.1.0.1/24' },
      ],
    },
    /managed_network\[1\]\.bridge: a is defined twice/,
  ],
  'a bridge whose name nftables could not hold': [
    { managed_network: [{ bridge: 'br:0', address: '10.0.0.1/24' }] },
    /managed_network\[0\]\.bridge: "br:0" is not a name/,
  ],
  "a network's first address": [
    { managed_network: [{ bridge: 'a', address: '192.168.122.0/24' }] },
    /managed_network\[0\]\.address: "192\.168\.122\.0\/24" is the first address .* "192\.168\.122\.1\/24"/,
  ],
  "a network's last address": [
    { managed_network: [{ bridge: 'a', address: '10.0.0.7/29' }] },
    /managed_network\[0\]\.address: "10\.0\.0\.7\/29" is the last address .* "10\.0\.0\.1\/29"/,
  ],
  'an MTU that no network has': [
    { managed_network: [{ bridge: 'a', address: '10.0.0.1/24', mtu: 100 }] },
    /managed_network\[0\]\.mtu: .*1280/,
  ],
  "a port of the host's that is none": [
    { managed_network: [{ bridge: 'a', address: '10.0.0.1/24', allow_host_ports: ['ssh'] }] },
    /managed_network\[0\]\.allow_host_ports\[0\]: "ssh" is not a port/,
  ],
  'networks that overlap': [
    {
      managed_network: [
        { bridge: 'a', address: '10.0.0.1/16' },
        { bridge: 'b', address: '10.9.0.1/16' },
        { bridge: 'c', address: '10.0.7.1/24' },
      ],
    },
    /managed_network\[2\]\.address: "10\.0\.7\.1\/24" overlaps with "10\.0\.0\.1\/16" of bridge a/,
  ],
  'an address without a length': [
    { managed_network: [{ bridge: 'a', address: '10.0.0.1' }] },
    /address: "10\.0\.0\.1" is not an IPv4/,
  ],
  'an address that is none': [
    { managed_network: [{ bridge: 'a', address: '10.0.0.256/24' }] },
    /is not an IPv4/,
  ],
  'a network too small': [
    { managed_network: [{ bridge: 'a', address: '10.0.0.1/31' }] },
    /from 8 to 29/,
  ],
  'a name server by name': [
    { managed_network: [{ bridge: 'a', address: '10.0.0.1/24', nameservers: ['dns'] }] },
    /nameservers\[0\]: "dns" is not an IP address/,
  ],
  'a domain with an underscore': [
    { managed_network: [{ bridge: 'a', address: '10.0.0.1/24', domain: 'my_lan' }] },
    /domain: "my_lan" is not a domain name/,
  ],
  'a domain that multicast DNS has': [
    { managed_network: [{ bridge: 'a', address: '10.0.0.1/24', domain: 'lan.local' }] },
    /domain: "lan.local" has a meaning of its own/,
  ],
  'an image store without a unit that is known': [
    { image_store: { max_size: '5 gallons' } },
    /image_store\.max_size: "5 gallons" is not a size: write a number with a unit/,
  ],
  'the root of the file system as data_dir': [{ data_dir: '/' }, /data_dir: must be a directory/],
  'the root in disguise as run_dir': [{ run_dir: '//x/..' }, /run_dir: must be a directory/],
  'a list for the whole': [['x'], /must be a block, not a list/],
};
for (const [name, [config, words]] of Object.entries(wrong)) {
  test(`P-16 V-6: refused with its key: ${name}`, () => assert.match(failureText(config), words));
}

test('V-19: everything wrong is reported at once', () => {
  const words = failureText({ data_dir: 'x', log_level: 'y', limits: { min_disk_mb: 'z' } });
  assert.match(words, /invalid plugin configuration: 3 problems: /);
  for (const key of ['data_dir', 'log_level', 'limits.min_disk_mb']) assert.ok(words.includes(key));
});

test('V-19: all that is wrong with networks is reported at once, and once', () => {
  const words = failureText({
    data_dir: 7,
    managed_network: [
      { bridge: 'br:0', address: '10.0.0.0/24' },
      { bridge: 'b', address: '10.0.0.1/24', nameservers: ['x', '1.1.1.1', 'y'] },
      { bridge: 'b', address: '10.0.0.9/24' },
      { bridge: 'c' },
    ],
  });
  const paths = words.replace(/^.*8 problems: /, '').split('; ');
  assert.deepEqual(
    paths.map((it) => it.split(': ')[0]),
    [
      'data_dir',
      'managed_network[3].address',
      'managed_network[0].bridge',
      'managed_network[0].address',
      'managed_network[1].nameservers[0]',
      'managed_network[1].nameservers[2]',
      'managed_network[2].bridge',
      'managed_network[2].address',
    ],
    words,
  );
});

test('P-16 V-33: paths are kept in the one form that they are compared in', () => {
  const forms: readonly [written: string, kept: string][] = [
    ['/opt/virt/', '/opt/virt'],
    ['//opt///virt', '/opt/virt'],
    ['/opt/./virt/.', '/opt/virt'],
    ['/opt/x/../virt/', '/opt/virt'],
    ['/../opt/virt', '/opt/virt'],
  ];
  for (const [written, kept] of forms) {
    const config = plugin({ data_dir: written, run_dir: written, image_paths: ['/', written] });
    assert.deepEqual(
      [config.dataDir, config.runDir, ...config.imagePaths],
      [kept, kept, '/', kept],
      written,
    );
  }
  // What counts is the path that sockets will have.
  assert.equal(plugin({ run_dir: `/run${'/'.repeat(70)}x` }).runDir, '/run/x');
});

test('P-16: a run_dir may be in data_dir, beside what the driver keeps there', () => {
  for (const name of ['run', 'vms2', 'uid', 'x/vms'])
    assert.equal(plugin({ data_dir: '/d', run_dir: `/d/${name}` }).runDir, `/d/${name}`);
});

test('P-16: bytes that are no configuration are an error', () => {
  assert.throws(
    () => decodePluginConfig(Buffer.from('c1', 'hex'), 'qmp'),
    /failed to decode plugin config/,
  );
});

for (const [name, schema] of Object.entries({ plugin: pluginSchema, task: taskSchema })) {
  test(`P-15: in the ${name} schema every part is named, typed and has its purpose`, () => {
    const types = ['string', 'number', 'bool', 'list(string)', 'list(map(string))', 'any'];
    const look = (spec: Spec | undefined): void => {
      const block = spec?.block;
      switch (block?.case) {
        case 'object':
          for (const inner of Object.values(block.value.attributes)) look(inner);
          break;
        case 'attr':
          assert.ok(block.value.name);
          assert.ok(types.includes(block.value.type), block.value.type);
          break;
        case 'default':
          assert.equal(block.value.primary?.block.case, 'attr');
          assert.equal(block.value.default?.block.case, 'literal');
          look(block.value.primary);
          break;
        case 'blockValue':
        case 'blockList':
        case 'blockMap':
          assert.ok(block.value.name);
          look(block.value.nested);
          break;
        default:
          assert.fail(`a ${block?.case}`);
      }
    };
    look(hclSpec(schema));
    const documented = (fields: object): void => {
      for (const [key, field] of Object.entries(fields)) {
        if (field.kind === 'instead') {
          assert.ok(field.use ?? field.needless, key);
          continue;
        }
        assert.ok(field.doc.length > 10 && field.doc.endsWith('.'), key);
        if (field.kind === 'attr') assert.ok(field.example, key);
        else documented(field.fields);
      }
    };
    documented(schema);
  });
}
