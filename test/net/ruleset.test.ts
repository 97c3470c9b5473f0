import { test } from 'node:test';
import { formatRuleset } from '../../src/net/rules/ruleset.ts';
import { formatTracking } from '../../src/net/rules/tracking.ts';

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
