import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatGroupRules } from '../../src/net/group/group-rules.ts';
import type { GroupNic } from '../../src/net/model/group.ts';
import { formatRuleset } from '../../src/net/rules/ruleset.ts';
import { formatTracking, withoutMaximum } from '../../src/net/rules/tracking.ts';

const port = (hostIp: string, hostPort: number) => ({
  label: 'web',
  hostIp,
  hostPort,
  guestPort: 80,
});
const claim = {
  ip: '192.168.122.9',
  vm: 'web',
  index: 0,
  mac: '52:54:00:01:02:03',
  tap: 'qmp01234567',
  hostname: 'web',
  ports: [port('192.0.2.1', 8080), port('', 8081)],
};
const record = {
  bridge: 'virbr0',
  address: '192.168.122.1',
  prefix: 24,
  owned: true,
  hostAccess: 'closed',
  nameservers: ['192.0.2.53'],
  dns: true,
  domain: 'virbr0.internal',
  upstream: [],
} as const;

const groupNic: GroupNic = {
  vm: 'web',
  index: 0,
  netns: '/run/netns/x',
  tap: 'qmp0',
  mac: '52:54:00:01:02:03',
  gateway: '192.0.0.65',
  guest: '192.0.0.66',
  six: { ip: 'fd98::2', gateway: 'fde5:4a95:8da2::1', guest: 'fde5:4a95:8da2::2' },
  mtu: 1500,
  hostname: 'web',
  nameservers: [],
  searches: [],
  portMap: { web: 80 },
};

const cases = {
  'nothing in use': [],
  'a network without VMs': [{ record, claims: [] }],
  'a VM with a port on one address and one on every': [{ record, claims: [claim] }],
  'a VM with two NICs, and another': [
    {
      record,
      claims: [
        claim,
        {
          ...claim,
          ip: '192.168.122.10',
          index: 1,
          mac: '52:54:00:01:02:04',
          tap: 'qmp1',
          ports: [],
        },
        {
          ...claim,
          ip: '192.168.122.11',
          vm: 'b',
          mac: '52:54:00:01:02:05',
          tap: 'qmp2',
          ports: [],
        },
      ],
    },
  ],
  'a name server of a cloud, and one of a network': [
    { record: { ...record, nameservers: ['169.254.169.254', '192.0.2.53'] }, claims: [claim] },
  ],
  'a network of isolated guests without NAT, and ports of the host': [
    {
      record: { ...record, isolate: true, nat: false, hostPorts: ['53', 'tcp/8500', 'udp/53'] },
      claims: [claim, { ...claim, ip: '192.168.122.10', vm: 'b', tap: 'qmp1', ports: [] }],
    },
  ],
  'a network with IPv6, and a VM with ports there': [
    {
      record: { ...record, address6: 'fd12:3456:789a::1/64' },
      claims: [
        {
          ...claim,
          ip6: 'fd12:3456:789a::9',
          ports: [...claim.ports, port('2001:db8::1', 8082)],
        },
      ],
    },
  ],
  'a guest with a link-local address that it chose': [
    {
      record: { ...record, address6: 'fd12:3456:789a::1/64' },
      claims: [{ ...claim, ip6: 'fd12:3456:789a::9', linkLocals: ['fe80::1234'], ports: [] }],
    },
  ],
  'a foreign bridge': [{ record: { ...record, owned: false }, claims: [claim] }],
};
for (const [name, networks] of Object.entries(cases)) {
  test(`V-112 V-116: rules: ${name}`, (t) => {
    const table = 'nomad_driver_qmp_test';
    const script = formatRuleset(table, networks) + formatTracking(table, networks, 8192);
    t.assert.snapshot(script, {
      serializers: [(text: unknown) => String(text)],
    });
  });
}

test('V-117: a VM that is gone keeps no place in a set that guests fill', () => {
  const networks = [{ record: { ...record, address6: 'fd12::1/64' }, claims: [claim] }];
  const scripts = [
    formatRuleset('own', networks),
    formatTracking('own', networks, 8192),
    formatGroupRules(groupNic, 8192),
  ].join('');
  const filled = [...scripts.matchAll(/^ {2}set (\S+) \{\n.*flags dynamic.*$/gm)];
  assert.ok(filled.length > 20);
  const lasting = filled.filter(([text]) => !text.includes('timeout')).map(([, name = '']) => name);
  // The kernel itself removes counters of connections that are over.
  const isCounter = (name: string) => scripts.includes(`add @${name} { `) && /_open/.test(name);
  assert.deepEqual(
    lasting.filter((name) => !isCounter(name)),
    [],
  );
});

test('V-117: limits of connections are told apart but for the maximum that all of them have', () => {
  const networks = [{ record: { ...record, address6: 'fd12::1/64' }, claims: [claim] }];
  const rulesOf = (script: string) =>
    withoutMaximum(script.split('\n').filter((line) => line.includes(' counter drop')));
  const script = formatTracking('own', networks, 1000);
  assert.deepEqual(rulesOf(script), rulesOf(formatTracking('own', networks, 25)));
  for (const limit of ['count over 1000 ', 'rate over 100/second', 'burst 1000 packets']) {
    const changed = script.replace(limit, limit.replace('1', '9'));
    assert.notDeepEqual(rulesOf(changed), rulesOf(script), limit);
  }
});
