import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { decodePluginConfig } from '../../src/plugin/agent/config.ts';
import { PluginError } from '../../src/plugin/error/plugin-error.ts';

const secret = 'AQBSdFhcGxRHEBAAkMJzKQ5Qw4mH2DdPqVUBDw==';
const ceph = {
  pool: 'vms',
  hosts: ['mon1', '192.0.2.1:6789', '[2001:db8::1]:3300', '[::1]'],
  authentication: { username: 'nomad', secret },
};

const poolsOf = (pools: unknown) =>
  decodePluginConfig(encode({ storage_pools: pools, run_dir: '/run/virt' }), 'virt').storagePools;

function failureText(pools: unknown): string {
  try {
    poolsOf(pools);
  } catch (error) {
    assert.ok(error instanceof PluginError);
    assert.equal(error.code, 'invalid');
    return error.message;
  }
  return 'no failure';
}

test('V-3 V-44: a single pool is the default', () => {
  assert.deepEqual(poolsOf({ directory: { local: { path: '/srv//vm/./disks/' } } }), {
    pools: [{ kind: 'directory', name: 'local', path: '/srv/vm/disks' }],
    default: 'local',
  });
});

test('V-3 V-44 V-46: any number of pools of both kinds, with IPv6 monitors', () => {
  const directory = { local: { path: '/srv/a' }, fast: { path: '/srv/b' } };
  assert.deepEqual(poolsOf({ default: 'remote', directory, ceph: { remote: ceph } }), {
    pools: [
      { kind: 'directory', name: 'local', path: '/srv/a' },
      { kind: 'directory', name: 'fast', path: '/srv/b' },
      {
        kind: 'ceph',
        name: 'remote',
        pool: 'vms',
        hosts: [
          { host: 'mon1', port: undefined },
          { host: '192.0.2.1', port: 6789 },
          { host: '2001:db8::1', port: 3300 },
          { host: '::1', port: undefined },
        ],
        username: 'nomad',
        secret,
      },
    ],
    default: 'remote',
  });
});

test('V-44: a pool may be in data_dir, beside what the driver keeps there', () => {
  for (const path of ['/var/lib/virt/pool', '/var/lib/virt/vms2', '/run/virtual']) {
    assert.equal(poolsOf({ directory: { a: { path } } }).default, 'a');
  }
});

const one = { local: { path: '/srv/a' } };
const withCeph = (change: object) => ({ ceph: { remote: { ...ceph, ...change } } });
const withUser = (change: object) =>
  withCeph({ authentication: { ...ceph.authentication, ...change } });

const wrong: Readonly<Record<string, [pools: unknown, text: RegExp]>> = {
  'no pool': [{}, /storage_pools: no storage pools defined/],
  'only an unknown default': [{ default: 'x' }, /storage_pools: no storage pools defined/],
  'an unknown default': [
    { default: 'x', directory: one },
    /storage_pools\.default: default storage pool is unknown - x; defined are local$/,
  ],
  'several pools without a default': [
    { directory: { ...one, b: { path: '/srv/b' } } },
    /storage_pools\.default: no default pool set: .* one of local, b$/,
  ],
  'one name for two pools': [
    { default: 'local', directory: one, ceph: { local: ceph } },
    /storage_pools\.ceph\.local: storage pool name already defined - local/,
  ],
  'one path for two pools': [
    { default: 'b', directory: { ...one, b: { path: '/srv/a/' } } },
    /storage_pools\.directory\.b\.path: is the path of pool local as well/,
  ],
  'a name that is none': [
    { directory: { 'a b': { path: '/a' } } },
    /"a b" is not a name for a pool/,
  ],
  'an empty block': [{ directory: { a: null } }, /storage_pools\.directory\.a\.path: is required/],
  'no label': [{ directory: 'x' }, /storage_pools\.directory: must be a block with a name/],
  'a relative path': [
    { directory: { a: { path: 'pool' } } },
    /storage_pools\.directory\.a\.path: must be an absolute path, not "pool"$/,
  ],
  'an empty path': [
    { directory: { a: { path: '' } } },
    /\.path: must be an absolute path, not ""$/,
  ],
  'the root of the file system': [{ directory: { a: { path: '/x/..' } } }, /this pool, not "\/"$/],
  'a path among the VMs': [
    { directory: { a: { path: '/var/lib/virt/vms/x' } } },
    /must not be in \/var\/lib\/virt\/vms, where the driver keeps other things/,
  ],
  'a path below the user ids': [
    { directory: { a: { path: '/var/lib/virt/uids' } } },
    /must not be in \/var\/lib\/virt\/uids/,
  ],
  'a path among the sockets': [
    { directory: { a: { path: '/run/virt/a' } } },
    /must not be in \/run\/virt,/,
  ],
  'data_dir itself': [
    { directory: { a: { path: '/var/lib/virt' } } },
    /must not contain \/var\/lib\/virt: .* such as \/var\/lib\/virt\/pool/,
  ],
  'a directory that contains data_dir': [
    { directory: { a: { path: '/var' } } },
    /must not contain \/var\/lib\/virt/,
  ],
  'no monitor': [withCeph({ hosts: [] }), /ceph\.remote\.hosts: must name at least one monitor/],
  'a monitor that is none': [
    withCeph({ hosts: ['a', '::1', 'b:70000', '[x]:1', 'b:0', 'a b'] }),
    /5 problems: storage_pools\.ceph\.remote\.hosts\[1\]: "::1" is not a host .*hosts\[5\]/,
  ],
  'a RADOS pool with an image': [
    withCeph({ pool: 'vms/a' }),
    /ceph\.remote\.pool: "vms\/a" is not the name of a RADOS pool/,
  ],
  'no authentication': [
    withCeph({ authentication: null }),
    /ceph\.remote\.authentication: is required/,
  ],
  'a user with its type': [
    withUser({ username: 'client.nomad' }),
    /authentication\.username: "client\.nomad" is not the name of a cephx user, without "client\."/,
  ],
  'a key that is not base64': [
    withUser({ secret: 'hush hush' }),
    /authentication\.secret: is not a cephx key in base64/,
  ],
};
for (const [name, [pools, text]] of Object.entries(wrong)) {
  test(`V-3 V-44 V-46: refused with its key: ${name}`, () =>
    assert.match(failureText(pools), text));
}

test('V-46: the secret is in no message, whatever is wrong with it', () => {
  for (const value of [73_501, true, 'very secret', ['very secret'], { very: 'secret' }]) {
    const text = failureText(withUser({ secret: value }));
    assert.match(text, /authentication\.secret: /);
    assert.doesNotMatch(text, /73501|very|true/);
  }
});

test('V-19: everything wrong with pools is reported at once', () => {
  const text = failureText({
    default: 'c',
    directory: { a: { path: '/' }, 'b/': { path: 'b' } },
    ceph: { a: { ...ceph, hosts: [''] } },
  });
  assert.match(text, /6 problems: /);
});
