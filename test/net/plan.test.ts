import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { contains, parseIpv4 } from '#spec';
import { planAddress } from '../../src/net/build/plan-address.ts';
import { planAddress6 } from '../../src/net/build/plan-address6.ts';
import {
  checkFamily,
  checkPorts,
  findConflicts,
  portTaken,
  wantsLoopback,
  wantsLoopback6,
} from '../../src/net/build/plan-ports.ts';
import { planBridge } from '../../src/net/links/plan-bridge.ts';
import { chooseMtu, planTap } from '../../src/net/links/plan-tap.ts';
import { parseNameservers } from '../../src/net/links/resolver.ts';
import {
  addressesInAlias,
  addressInAlias,
  bridgeMac,
  isAliasOf,
  nicMac,
  ownAlias,
  tableName,
  tapAlias,
  tapMac,
  tapName,
} from '../../src/net/model/names.ts';
import { decodeNetUndo } from '../../src/net/model/undo.ts';
import type { Claim } from '../../src/net/store/claim.ts';
import { decodeClaim, decodeNetwork, encodeClaim } from '../../src/net/store/claim.ts';
import { networkSubnet, overlappingNetwork } from '../../src/net/store/subnets.ts';

const network = { bridge: 'virbr0', address: '192.168.122.1', prefix: 24 };
const request = {
  kind: 'bridge',
  vm: 'web',
  index: 0,
  bridge: 'virbr0',
  ports: [],
  hostname: 'web',
} as const;
const port = (hostIp: string, hostPort: number) => ({
  label: `p${hostPort}`,
  hostIp,
  hostPort,
  guestPort: 80,
});
const claim = (vm: string, ip: string, ports: Claim['ports'] = []): Claim => ({
  ip,
  vm,
  index: 0,
  mac: nicMac(vm, 0),
  tap: tapName(vm, 0, 0),
  hostname: vm,
  ports,
});
const record = {
  ...network,
  owned: true,
  hostAccess: 'closed',
  nameservers: ['192.0.2.53'],
  dns: true,
  domain: 'virbr0.internal',
  upstream: [],
} as const;

test('names are stable, legal and different for different NICs', () => {
  assert.equal(nicMac('web', 0), nicMac('web', 0));
  fc.assert(
    fc.property(fc.string(), fc.nat({ max: 9 }), (vm, index) => {
      assert.match(nicMac(vm, index), /^52(:[0-9a-f]{2}){5}$/);
      assert.match(tapName(vm, index, 0), /^qmp[0-9a-f]{8}$/);
    }),
  );
  assert.notEqual(nicMac('web', 0), nicMac('web', 1));
  assert.notEqual(tapName('web', 0, 0), tapName('web', 0, 1));
  assert.notEqual(tableName('/a'), tableName('/b'));
  // docs/operations.md has these digits and how an operator computes others.
  assert.equal(tableName('/var/lib/virt/networks'), 'nomad_driver_qmp_12611868');
  assert.equal(tapAlias('web', 1), 'nomad-driver-qmp web/1');
});

test('V-124: MAC addresses of a fleet on one LAN differ', () => {
  const macs = Array.from({ length: 20_000 }, (_, vm) => nicMac(`vm-${vm}`, 0));
  assert.equal(new Set(macs).size, macs.length);
  assert.match(tapMac(nicMac('web', 0)), /^fe(:[0-9a-f]{2}){5}$/);
});

test("a tap's alias holds its owner and its address, and is known with and without", () => {
  const alias = tapAlias('web', 1, '192.168.122.7');
  assert.equal(alias, 'nomad-driver-qmp web/1 192.168.122.7');
  assert.equal(addressInAlias(alias), '192.168.122.7');
  assert.equal(addressInAlias(tapAlias('web', 1)), undefined);
  assert.equal(addressInAlias('something else'), undefined);
  assert.equal(addressInAlias(tapAlias('web', 1, undefined, 'fd12::7')), undefined);
  const both = tapAlias('web', 1, '192.0.2.7', '2001:db8::7');
  assert.equal(addressInAlias(both), '192.0.2.7');
  assert.deepEqual(addressesInAlias(both), ['192.0.2.7', '2001:db8::7']);
  for (const own of [alias, tapAlias('web', 1)]) {
    assert.ok(isAliasOf(own, 'web', 1));
    assert.ok(!isAliasOf(own, 'web', 10) && !isAliasOf(own, 'web-2', 1));
  }
});

const links = (...names: string[]) => names.map((name) => ({ name, address: '', alias: '' }));

test('a tap name that is taken is passed over', () => {
  const first = planTap(request, []);
  assert.deepEqual(first, {
    tap: tapName('web', 0, 0),
    mac: nicMac('web', 0),
    queues: 1,
  });
  assert.equal(planTap(request, links(first.tap)).tap, tapName('web', 0, 1));
  const all = Array.from({ length: 16 }, (_, attempt) => tapName('web', 0, attempt));
  assert.throws(() => planTap(request, links(...all)), /every name for the tap/);
});

const own = { kind: 'bridge', alias: ownAlias, mac: bridgeMac('virbr0'), mtu: 1500 };
const theirs = { kind: 'bridge', alias: '', mac: '52:54:00:12:34:56', mtu: 1500 };
const has = [{ address: '192.168.122.1', prefix: 24 }];
const bridges = {
  'nothing there': [undefined, 'create'],
  'ours as it should be': [{ ...own, addresses: has }, 'own'],
  'ours, interrupted before its address': [{ ...own, addresses: [] }, 'own'],
  'ours, interrupted before its alias': [{ ...own, alias: '', addresses: [] }, 'own'],
  'a foreign one of the same address': [{ ...theirs, addresses: has }, 'foreign'],
  'a foreign one with our MAC address and an alias of its own': [
    { ...own, alias: 'mine', addresses: has },
    'foreign',
  ],
} as const;
for (const [name, [found, expected]] of Object.entries(bridges)) {
  test(`a bridge: ${name}`, () => assert.equal(planBridge(network, found), expected));
}

test('a bridge of another address, prefix or kind is refused', () => {
  const wrong = [
    { ...theirs, addresses: [] },
    { ...theirs, addresses: [{ address: '192.168.122.1', prefix: 16 }] },
    { ...own, addresses: [{ address: '10.0.0.1', prefix: 24 }] },
    { ...theirs, kind: 'veth', addresses: has },
    { ...theirs, kind: undefined, addresses: has },
  ];
  for (const found of wrong)
    assert.throws(() => planBridge(network, found), /^NetError: (link|bridge) virbr0 exists/);
});

test('V-120: an address is free, in the network, never the gateway, and the same again', () => {
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 24, max: 29 }), (vm, prefix) => {
      const small = { ...network, prefix };
      const facts = { claims: [], avoid: new Map<string, string>() };
      const ip = planAddress({ ...request, vm }, small, facts);
      assert.equal(planAddress({ ...request, vm }, small, facts), ip);
      const subnet = networkSubnet(small);
      const value = parseIpv4(ip) ?? 0;
      assert.ok(contains(subnet, value) && value !== subnet.network && value !== subnet.broadcast);
      assert.notEqual(ip, network.address);
    }),
  );
});

test('a network is filled to its last address and then refuses', () => {
  const small = { ...network, prefix: 28 };
  const claims: Claim[] = [];
  for (let vm = 0; vm < 13; vm++) {
    const ip = planAddress({ ...request, vm: `vm${vm}` }, small, { claims, avoid: new Map() });
    claims.push(claim(`vm${vm}`, ip));
  }
  assert.equal(new Set(claims.map(({ ip }) => ip)).size, 13);
  const facts = { claims, avoid: new Map<string, string>() };
  assert.throws(() => planAddress({ ...request, vm: 'late' }, small, facts), {
    code: 'host',
    recoverable: true,
    message: /VM late: no free address in network virbr0 \(192\.168\.122\.1\/28, 13 in use\)/,
  });
  const again = planAddress({ ...request, vm: 'vm5' }, small, facts);
  assert.equal(again, claims[5]?.ip, 'who has one keeps it');
});

test('V-124: an address that the job asks for is given, or the error names what has it', () => {
  const facts = {
    claims: [claim('db', '192.168.122.7')],
    avoid: new Map([['192.168.122.8', 'VM other']]),
  };
  const ask = (ip: string, changes = {}) =>
    planAddress({ ...request, ip, ...changes }, network, facts);
  assert.equal(ask('192.168.122.50'), '192.168.122.50');
  assert.equal(ask('192.168.122.7', { vm: 'db' }), '192.168.122.7', 'the VM has it already');
  const refused = {
    '192.168.122.7': ['host', /^VM web: ip 192\.168\.122\.7 in network virbr0 is taken by VM db$/],
    '192.168.122.8': ['host', /is taken by VM other$/],
    '192.168.122.1': ['job', /is that of network virbr0 itself$/],
    '192.168.122.0': [
      'job',
      /is no address for a guest in network virbr0 \(192\.168\.122\.0\/24\)$/,
    ],
    '192.168.122.255': ['job', /is no address for a guest/],
    '192.168.123.5': ['job', /is no address for a guest/],
  } as const;
  for (const [ip, [code, message]] of Object.entries(refused)) {
    assert.throws(() => ask(ip), { code, message });
  }
});

test('V-124: a MAC address is one VM’s on a host, whatever bridge it is on', () => {
  const mac = '52:54:00:12:34:56';
  assert.equal(planTap({ ...request, mac }, []).mac, mac);
  const tap = { name: 'qmp1', address: tapMac(mac), alias: tapAlias('db', 0, '10.0.0.7') };
  assert.throws(() => planTap({ ...request, mac }, [tap]), {
    code: 'host',
    message: /^VM web: mac 52:54:00:12:34:56 is that of VM db, or differs/,
  });
  const own = { ...tap, alias: tapAlias('web', 0) };
  assert.equal(planTap({ ...request, mac }, [own]).mac, mac, 'what is left of its own tap');
});

test('V-124: an MTU is the bridge’s or a smaller one', () => {
  const on = { vm: 'web' };
  const link = { name: 'virbr0', mtu: 1450 };
  assert.equal(chooseMtu(on, link), 1450);
  assert.equal(chooseMtu({ ...on, mtu: 1400 }, link), 1400);
  assert.throws(() => chooseMtu({ ...on, mtu: 9000 }, link), {
    code: 'host',
    message: 'VM web: mtu 9000: virbr0 carries 1450 bytes',
  });
});

test('V-124: an MTU that the network has and the card has not is that of the card', () => {
  const jumbo = { name: 'virbr0', mtu: 12_000 };
  const models = ['virtio', 'e1000e', 'vmxnet3', 'rtl8139', 'pcnet'] as const;
  assert.deepEqual(
    models.map((model) => chooseMtu({ vm: 'web', model }, jumbo)),
    [12_000, 12_000, 9000, 1500, 1500],
  );
});

test('V-124: with an MTU that IPv6 does not allow a guest has IPv4 only, and no port there', () => {
  const network = {
    bridge: 'virbr0',
    address: '192.168.122.1',
    prefix: 24,
    address6: 'fd12::1/64',
  };
  const facts = { ip: '192.168.122.9', claims: [], avoid: new Map<string, string>() };
  const request = {
    kind: 'bridge',
    vm: 'web',
    index: 0,
    bridge: 'virbr0',
    hostname: 'web',
  } as const;
  const at = { label: 'http', hostIp: '2001:db8::1', hostPort: 8080, guestPort: 80 };
  assert.equal(planAddress6({ ...request, ports: [] }, network, facts), 'fd12::9');
  assert.equal(planAddress6({ ...request, ports: [], mtu: 1280 }, network, facts), 'fd12::9');
  assert.equal(planAddress6({ ...request, ports: [], mtu: 1279 }, network, facts), undefined);
  assert.throws(() => checkFamily({ ...request, ports: [at], mtu: 1279 }, undefined), {
    message: 'VM web: port http on [2001:db8::1]:8080: IPv6 needs an mtu of 1280, not 1279',
  });
});

test('an address that is in use is avoided', () => {
  const facts = { claims: [], avoid: new Map<string, string>() };
  const ip = planAddress(request, network, facts);
  assert.notEqual(
    planAddress(request, network, { ...facts, avoid: new Map([[ip, 'this host']]) }),
    ip,
  );
});

const taken = [{ record, claims: [claim('other', '192.168.122.9', [port('192.0.2.1', 80)])] }];
const ports = {
  'another port is free': [port('192.0.2.1', 81), undefined],
  'the same port at another address is free': [port('192.0.2.2', 80), undefined],
  'the same port at the same address': [
    port('192.0.2.1', 80),
    'VM web: port p80 on 192.0.2.1:80 is already mapped to VM other',
  ],
  'the same port at every address': [
    port('', 80),
    'VM web: port p80 on *:80 is already mapped to VM other',
  ],
} as const;
for (const [name, [wanted, expected]] of Object.entries(ports)) {
  test(`V-112: a port: ${name}`, () => {
    const asked = { ...request, ports: [port('', 9), wanted] };
    const [conflict] = findConflicts(asked, taken);
    const error = conflict && portTaken(asked, conflict);
    assert.equal(error?.message, expected);
    assert.equal(error?.recoverable ?? true, true, 'the port may be free later, or elsewhere');
  });
}

test('the ports a NIC has itself are no conflict', () => {
  const own = { ...request, vm: 'other', ports: [port('192.0.2.1', 80)] };
  assert.deepEqual(findConflicts(own, taken), []);
});

test('ports that can’t be mapped, or twice in one request, are refused', () => {
  checkPorts({ ...request, ports: [port('', 80), port('192.0.2.1', 81)] });
  const twice = [port('', 80), port('192.0.2.1', 80)];
  const wrongInItself = { code: 'job', recoverable: false };
  assert.throws(() => checkPorts({ ...request, ports: twice }), wrongInItself);
  const named = [port('localhost', 80)];
  assert.throws(() => checkPorts({ ...request, ports: named }), /localhost:80: not an IP address/);
});

test('loopback ports are recognised', () => {
  assert.ok(wantsLoopback([port('', 80), port('127.0.0.9', 81)]));
  assert.ok(!wantsLoopback([port('', 80), port('192.0.2.1', 81)]));
  assert.ok(wantsLoopback6([port('', 80), port('::1', 81)]));
  assert.ok(!wantsLoopback6([port('', 80), port('2001:db8::1', 81)]));
});

test('networks that share addresses are found, and a network is no neighbour of its own', () => {
  assert.equal(overlappingNetwork(network, [record]), undefined);
  const wide = { ...record, bridge: 'virbr1', address: '192.168.0.1', prefix: 16 };
  assert.equal(overlappingNetwork(network, [wide]), wide);
  assert.equal(overlappingNetwork({ ...network, bridge: 'b', prefix: 8 }, [record]), record);
  assert.equal(overlappingNetwork({ ...network, address: '10.0.0.1' }, [record]), undefined);
});

test('V-117 D20: claims and undo steps survive JSON; what isn’t one is reported', () => {
  const one = claim('web', '192.168.122.9', [port('', 80)]);
  assert.deepEqual(decodeClaim(one.ip, encodeClaim(one)), one);
  for (const text of ['', '{', '[]', '{"vm":1}', encodeClaim(one).slice(0, -3)]) {
    assert.equal(decodeClaim(one.ip, text), undefined);
  }
  assert.deepEqual(decodeNetwork(JSON.stringify(record)), record);
  assert.equal(decodeNetwork('{}'), undefined);
  const { nameservers: _, ...former } = record;
  assert.deepEqual(decodeNetwork(JSON.stringify(former)), { ...record, nameservers: [] });
  const grown = { ...record, isolate: true, nat: false, dhcp: false, mtu: 9000, hostPorts: ['53'] };
  assert.deepEqual(decodeNetwork(JSON.stringify(grown)), grown);
  const step = { kind: 'net-tap', tap: 'qmp1', vm: 'web', index: 0 };
  assert.deepEqual(decodeNetUndo(JSON.parse(JSON.stringify(step))), step);
  assert.equal(decodeNetUndo({ kind: 'net-tap' }), undefined);
  assert.equal(decodeNetUndo({ kind: 'file', path: '/' }), undefined);
});

test('name servers of the host: those a guest can reach', () => {
  const text = [
    '# nameserver 1.1.1.1',
    'nameserver 127.0.0.53',
    ' nameserver\t192.0.2.1',
    'nameserver fe80::1%eth0',
    'nameserver 192.0.2.1',
    'search example.org',
    'nameserver 192.0.2.2 # the other one',
  ].join('\n');
  assert.deepEqual(parseNameservers(text), ['192.0.2.1', '192.0.2.2']);
});
