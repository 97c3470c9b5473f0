import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { parse } from 'yaml';
import { type SeedRequest, seedProblems } from '#cloudinit';
import { CloudInitError } from '../../src/cloudinit/error.ts';
import { buildSeed, seedNotes } from '../../src/cloudinit/seed.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { fullest, line, smallest, text } from './request.ts';

function file(request: SeedRequest, name: string): string {
  const bytes = buildSeed(request).get(name);
  assert.ok(bytes !== undefined, `no ${name}`);
  return Buffer.from(bytes).toString('utf8');
}

/** What a YAML 1.1 reader and a JSON reader both make of a file; they have to agree. */
function data(request: SeedRequest, name: string): Record<string, unknown> {
  const content = file(request, name);
  const json: unknown = JSON.parse(content.replace(/^#cloud-config\n/, ''));
  assert.deepEqual(parse(content, { version: '1.1' }), json);
  assert.deepEqual(parse(content, { version: '1.2' }), json);
  assert.ok(typeof json === 'object' && json !== null);
  return { ...json };
}

const shown = (request: SeedRequest): string =>
  [...buildSeed(request)]
    .map(([name, bytes]) => `=== ${name}\n${Buffer.from(bytes).toString('utf8')}`)
    .join('');

test('V-56 V-58: the seed of the smallest request', (t) => {
  t.assert.snapshot(shown(smallest), { serializers: [String] });
});

test('V-56 V-58 V-62 V-63 V-67: the seed of a request with everything in it', (t) => {
  t.assert.snapshot(shown(fullest), { serializers: [String] });
});

test('V-57: the instance id is the VM, the host name is local-hostname', () => {
  assert.deepEqual(data(smallest, 'meta-data'), {
    'instance-id': 'web-1a2b3c4d',
    'local-hostname': 'nomad-web-1a2b3c4d',
  });
});

test('V-64: a hash that cloud-init does not know is set as one of the default user', () => {
  const newer = `$y$j9T$${'a'.repeat(22)}$${'b'.repeat(43)}`;
  const { password, chpasswd, system_info } = data({ ...smallest, password: newer }, 'vendor-data');
  assert.deepEqual([password, chpasswd], [undefined, undefined]);
  assert.deepEqual(system_info, { default_user: { hashed_passwd: newer, lock_passwd: false } });
  const older = `$6$salt$${'a'.repeat(86)}`;
  assert.equal(data({ ...smallest, password: older }, 'vendor-data').password, older);
});

test('V-145: commands of each boot are a script of this instance, with the environment', (t) => {
  const request = { ...smallest, env: { A: 'b' }, commands: ['echo $((6 * 7))', 'echo done'] };
  const vendor = data({ ...request, commandsOn: 'boot' }, 'vendor-data');
  assert.equal(vendor.runcmd, undefined);
  const files = vendor.write_files as readonly Readonly<Record<string, string>>[];
  const { path, permissions, content = '' } = files.at(-1) ?? {};
  assert.deepEqual([path, permissions], ['/var/lib/cloud/scripts/per-boot/nomad-cmds', '0700']);
  assert.match(content, /^#!\/bin\/sh\n.*\n.*\/etc\/nomad\/env.*\necho /);
  const instance = join(tmpDir(t), 'instance-id');
  const run = (id: string): string => {
    writeFileSync(instance, `${id}\n`);
    const script = content.replace('/var/lib/cloud/data/instance-id', instance);
    return spawnSync('sh', ['-c', script], { encoding: 'utf8' }).stdout;
  };
  assert.equal(run(smallest.instanceId), '42\ndone\n');
  assert.equal(run('another'), '', 'a disk that was kept does not run the commands of its last VM');
  const atFirst = data({ ...request, commandsOn: 'instance' }, 'vendor-data');
  assert.ok(Array.isArray(atFirst.runcmd));
});

test('V-57: keys of one’s own in the meta-data, the instance’s among them', () => {
  const metaData = { role: 'web: {#1}', 'instance-id': 'kept-1' };
  const request: SeedRequest = { ...smallest, metaData, commands: ['true'], commandsOn: 'boot' };
  assert.deepEqual(data(request, 'meta-data'), {
    'instance-id': 'kept-1',
    'local-hostname': 'nomad-web-1a2b3c4d',
    role: 'web: {#1}',
  });
  assert.match(file(request, 'vendor-data'), /= 'kept-1' \]/);
});

test('V-63: a network configuration of the job replaces the driver’s', () => {
  const networkConfig = 'version: 2\nethernets: {}\n';
  assert.equal(file({ ...fullest, networkConfig }, 'network-config'), networkConfig);
  assert.equal(file({ ...smallest, networkConfig }, 'network-config'), networkConfig);
});

test('V-60: user data goes into the seed byte for byte, and its absence is an empty cloud-config', () => {
  const kinds = ['#!/bin/sh\r\necho hi\n', '#cloud-config\na: é😀\n', '#include https://example/x'];
  for (const userData of kinds)
    assert.equal(file({ ...smallest, userData }, 'user-data'), userData);
  for (const userData of ['', ' \n', undefined]) {
    assert.deepEqual(data({ ...smallest, userData }, 'user-data'), {});
  }
});

test('V-59 V-60: compressed user data goes into the seed as it is', () => {
  const userData = gzipSync('#cloud-config\na: é\n');
  assert.deepEqual(buildSeed({ ...smallest, userData }).get('user-data'), userData);
});

test('V-58 V-61 D8: no value can become syntax: every file parses back to the values given', () => {
  const request = fc.record({
    instanceId: line,
    hostname: line,
    password: line,
    authorizedKey: line,
    commands: fc.array(text, { minLength: 1, maxLength: 4 }),
    timezone: line,
    env: fc.dictionary(fc.stringMatching(/^X[A-Za-z0-9_]{0,8}$/), text, { minKeys: 1, maxKeys: 3 }),
  });
  fc.assert(
    fc.property(request, (values) => {
      const given: SeedRequest = { ...smallest, ...values };
      assert.deepEqual(data(given, 'meta-data'), {
        'instance-id': values.instanceId,
        'local-hostname': values.hostname,
        ...(values.authorizedKey.trim() !== '' && { 'public-keys': [values.authorizedKey.trim()] }),
      });
      const vendor = data(given, 'vendor-data');
      assert.equal(vendor.password, values.password);
      assert.equal(vendor.timezone, values.timezone);
      const key = values.authorizedKey.trim();
      assert.deepEqual(vendor.ssh_authorized_keys, key === '' ? undefined : [key]);
      assert.deepEqual(Array.isArray(vendor.runcmd) && vendor.runcmd.slice(1), values.commands);
    }),
    { numRuns: 300 },
  );
});

test('V-61 D8: PyYAML, which cloud-init reads with, finds the same values', (t) => {
  const reader =
    'import sys,json,yaml; print(json.dumps([yaml.safe_load(d) for d in json.load(sys.stdin)]))';
  const run = (documents: readonly string[]) =>
    spawnSync('/usr/bin/python3', ['-c', reader], {
      input: JSON.stringify(documents),
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
  if (!requireOrSkip(t, run([]).status === 0, 'python3 with yaml is not installed')) return;
  const samples = fc.sample(fc.tuple(text, line), { numRuns: 400, seed: 42 });
  const documents = samples.map(([command, password]) =>
    file({ ...smallest, commands: [command], password }, 'vendor-data'),
  );
  const found: unknown = JSON.parse(run(documents).stdout);
  assert.deepEqual(
    found,
    documents.map((it) => JSON.parse(it.replace(/^#cloud-config\n/, ''))),
  );
});

test('the same request gives the same bytes, whatever the order of its environment', () => {
  const env = { B: '2', A: '1', C: '3' };
  const other = { C: '3', A: '1', B: '2' };
  assert.deepEqual(buildSeed({ ...smallest, env }), buildSeed({ ...smallest, env: other }));
});

test("V-58: ours and the user's lists are joined, and of everything else the user's wins", () => {
  // cloud-init takes merge_how away while it reads this document, and merge_type while it joins it with the user's.
  const vendor = data(smallest, 'vendor-data');
  assert.equal(vendor.merge_how, 'list(prepend)+dict(no_replace,recurse_dict,recurse_list)+str()');
  assert.equal(vendor.merge_type, vendor.merge_how);
});

test('V-95: the host key, and a key for root that leaves every other line as it is', (t) => {
  const authorizedKey = 'restrict,pty,from="192.0.2.1" ssh-ed25519 AAAAnew nomad-driver-qmp';
  const hostKey = { private: 'PRIVATE\n', public: 'ssh-ed25519 AAAAhost vm' };
  const vendor = data({ ...smallest, ssh: { hostKey, authorizedKey } }, 'vendor-data');
  assert.deepEqual(vendor.ssh_keys, {
    ed25519_private: 'PRIVATE\n',
    ed25519_public: hostKey.public,
  });
  const { bootcmd } = vendor;
  assert.ok(Array.isArray(bootcmd));
  const home = tmpDir(t);
  const script = `${String(bootcmd.at(-1)).replaceAll('/root/', `${home}/`)}; umask`;
  mkdirSync(join(home, '.ssh'));
  const keys = join(home, '.ssh/authorized_keys');
  // Without a line break at its end, and with the key of an earlier VM in it.
  writeFileSync(keys, 'ssh-ed25519 AAAAold nomad-driver-qmp\nssh-ed25519 AAAA me@example');
  for (const _ of ['first boot', 'second boot']) {
    const { stdout } = spawnSync('/bin/sh', ['-c', `umask 022; ${script}`], { encoding: 'utf8' });
    assert.equal(stdout.trim(), '0022');
    assert.equal(readFileSync(keys, 'utf8'), `ssh-ed25519 AAAA me@example\n${authorizedKey}\n`);
  }
});

test('V-58: a password does not expire, and without one nothing is set of passwords', () => {
  assert.deepEqual(data({ ...smallest, password: 'x' }, 'vendor-data').chpasswd, { expire: false });
  const none = data(smallest, 'vendor-data');
  assert.deepEqual(Object.keys(none), ['merge_how', 'merge_type', 'bootcmd']);
});

test('V-64: several keys, one a line', () => {
  const vendor = data({ ...smallest, authorizedKey: ' a b \n\r\n c d\n' }, 'vendor-data');
  assert.deepEqual(vendor.ssh_authorized_keys, ['a b', 'c d']);
});

test('V-64: the keys are in meta-data, too, for readers without vendor data', () => {
  const given = { ...smallest, authorizedKey: ' a b \n\r\n c d\n' };
  assert.deepEqual(data(given, 'meta-data')['public-keys'], ['a b', 'c d']);
});

test('V-25 D10: the timezone reaches the guest', () => {
  const vendor = data({ ...smallest, timezone: 'Asia/Tokyo' }, 'vendor-data');
  assert.equal(vendor.timezone, 'Asia/Tokyo');
});

test('V-67 D9: shares are mounted by commands, and fstab is left alone', () => {
  const vendor = data(fullest, 'vendor-data');
  assert.equal(vendor.mounts, undefined);
  assert.ok(Array.isArray(vendor.bootcmd));
  assert.equal(vendor.bootcmd.filter((it) => String(it).includes('mount ')).length, 2);
});

test('V-124: the default route is that of one interface, with and without addresses', () => {
  const [first, second] = ['52:54:00:00:00:01', '52:54:00:00:00:02'] as const;
  const address = { address: '10.0.0.5', prefix: 24, gateway: '10.0.0.1' };
  const one = { mac: first, nameservers: [], isDefaultRoute: false };
  const other = { mac: second, nameservers: [], isDefaultRoute: true };
  const [byDhcp, mixed, fixed] = [
    [one, other],
    [one, { ...other, ...address }],
    [
      { ...one, ...address },
      { ...other, ...address },
    ],
  ].map((network) => String(buildSeed({ ...smallest, network }).get('network-config')));
  assert.deepEqual(JSON.parse(byDhcp ?? '').ethernets.eth0['dhcp4-overrides'], {
    'use-routes': false,
    'route-metric': 2048,
  });
  assert.equal(JSON.parse(byDhcp ?? '').ethernets.eth1['dhcp4-overrides'], undefined);
  const subnets = (text = ''): unknown[] =>
    JSON.parse(text).config.flatMap((nic: { subnets: unknown[] }) => nic.subnets);
  const route = { type: 'static', address: '10.0.0.5/24', gateway: '10.0.0.1' };
  assert.deepEqual(subnets(mixed), [{ type: 'dhcp4', metric: 2048 }, route]);
  assert.deepEqual(subnets(fixed), [{ type: 'static', address: '10.0.0.5/24' }, route]);
});

test('V-63 V-120: an IPv6 address is static beside that of IPv4, its gateway with the default route', () => {
  const six = { ip: 'fd12::5', prefix: 64, gateway: 'fd12::1' };
  const nic = { mac: '52:54:00:00:00:01', address: '10.0.0.5', prefix: 24, nameservers: [], six };
  const subnetsOf = (isDefaultRoute: boolean): unknown[] => {
    const seed = buildSeed({ ...smallest, network: [{ ...nic, isDefaultRoute }] });
    const [own] = JSON.parse(String(seed.get('network-config'))).config;
    // Advertisements would give it the same router once more.
    assert.equal(own['accept-ra'], false);
    return own.subnets;
  };
  const static4 = { type: 'static', address: '10.0.0.5/24' };
  const static6 = { type: 'static6', address: 'fd12::5/64' };
  assert.deepEqual(subnetsOf(true), [static4, { ...static6, gateway: 'fd12::1' }]);
  assert.deepEqual(subnetsOf(false), [static4, static6]);
});

test('V-120: without a gateway of IPv6 the guest takes the router that announces itself', () => {
  const six = { ip: '2001:db8::5', prefix: 64 };
  const nic = { mac: '52:54:00:00:00:01', address: '10.0.0.5', prefix: 24, nameservers: [], six };
  const [own] = JSON.parse(
    String(buildSeed({ ...smallest, network: [nic] }).get('network-config')),
  ).config;
  assert.equal('accept-ra' in own, false);
  assert.deepEqual(own.subnets, [
    { type: 'static', address: '10.0.0.5/24' },
    { type: 'static6', address: '2001:db8::5/64' },
  ]);
});

test('V-120: an IPv6 address alone is static, and the guest asks for none of IPv4', () => {
  const nic = {
    mac: '52:54:00:00:00:01',
    address: '2001:db8::5',
    prefix: 64,
    nameservers: ['2001:db8::53'],
  };
  const own = (gateway: object, isDefaultRoute = true) =>
    JSON.parse(
      String(
        buildSeed({ ...smallest, network: [{ ...nic, ...gateway, isDefaultRoute }] }).get(
          'network-config',
        ),
      ),
    ).config[0];
  const subnet = { type: 'static6', address: '2001:db8::5/64', dns_nameservers: ['2001:db8::53'] };
  assert.equal('accept-ra' in own({}), false);
  assert.deepEqual(own({}).subnets, [subnet]);
  const { subnets, 'accept-ra': acceptsRouters } = own({ gateway: 'fe80::1' });
  assert.equal(acceptsRouters, false);
  assert.deepEqual(subnets, [{ ...subnet, gateway: 'fe80::1' }]);
  assert.deepEqual(own({ gateway: 'fe80::1' }, false).subnets, [subnet]);
});

test('V-63: without interfaces there is no network-config', () => {
  assert.deepEqual([...buildSeed(smallest).keys()], ['meta-data', 'user-data', 'vendor-data']);
  assert.equal(buildSeed({ ...smallest, network: [] }).has('network-config'), false);
});

const refused: Readonly<Record<string, readonly [Partial<SeedRequest>, string]>> = {
  "a password of two lines, which would set a second user's": [
    { password: 'x\nroot:y' },
    'default_user_password: contains a control character or line break',
  ],
  'a password with a line break at its end': [
    { password: 'x\n' },
    'default_user_password: contains a control character or line break',
  ],
  'a password with a tab in it': [
    { password: 'x\ty' },
    'default_user_password: contains a control character or line break',
  ],
  'a host name with a line break': [
    { hostname: 'a\nb' },
    'hostname: contains a control character or line break',
  ],
  'a timezone with a control character': [
    { timezone: 'a\u001b' },
    'timezone: contains a control character or line break',
  ],
  'a NUL byte in a command': [{ commands: ['true', 'a\0'] }, 'cmds[1]: contains a NUL byte'],
  'half a surrogate pair in a command': [{ commands: ['\ud800'] }, 'cmds[0]: is not valid Unicode'],
  'half a surrogate pair in a key': [
    { authorizedKey: 'ssh \udc00' },
    'default_user_authorized_ssh_key: is not valid Unicode',
  ],
  'a relative mount point': [
    { mounts: [{ tag: 'a', target: 'alloc', type: '9p', readOnly: true }] },
    'volume_mount: "alloc" is not absolute',
  ],
};
for (const [name, [change, problem]] of Object.entries(refused)) {
  test(`V-61: refused with the key of the job: ${name}`, () => {
    const request = { ...smallest, ...change };
    assert.throws(
      () => buildSeed(request),
      new CloudInitError(`the seed cannot be made: ${problem}`),
    );
    // What can be asked before anything is made.
    assert.deepEqual(
      seedProblems(request).map(({ field, text }) => `${field}: ${text}`),
      [problem],
    );
  });
}

test('V-61: a request that a seed is made of has no problems', () => {
  assert.deepEqual([seedProblems(smallest), seedProblems(fullest)], [[], []]);
});

test('V-62: variables that a shell cannot have are left out, and the reason is reported', () => {
  const env = { 'a-b': '', 'a-c': '', OK: '1', UID: '0', NIL: '\0' };
  assert.deepEqual(seedNotes({ ...smallest, env }), [
    'environment variables left out, whose values contain a NUL byte: "NIL"',
    'environment variables left out, whose names shells reserve: "UID"',
    'environment variables left out, whose names are not valid in a shell: "a-b", "a-c"',
  ]);
});
