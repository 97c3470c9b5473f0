import assert from 'node:assert/strict';
import { test } from 'node:test';
import { changesOf } from '../../src/net/rules/changes.ts';
import { formatRuleset } from '../../src/net/rules/ruleset.ts';
import { formatTracking } from '../../src/net/rules/tracking.ts';

const table = 'nomad_driver_qmp_test';
const record = {
  bridge: 'virbr0',
  address: '192.168.122.1',
  prefix: 24,
  address6: 'fd00:1::1/64',
  owned: true,
  hostAccess: 'closed',
  nameservers: ['192.0.2.53'],
  dns: true,
  domain: 'virbr0.internal',
  upstream: [],
} as const;
const vm = (number: number) => ({
  ip: `192.168.122.${number}`,
  ip6: `fd00:1::${number}`,
  vm: `vm${number}`,
  index: 0,
  mac: `52:54:00:00:00:${number}`,
  tap: `qmp${number}`,
  hostname: `vm${number}`,
  ports: [{ label: 'web', hostIp: '192.0.2.1', hostPort: 8000 + number, guestPort: 80 }],
});

type Claims = readonly ReturnType<typeof vm>[];
const scriptOf = (claims: Claims, more: object = {}): string => {
  const networks = [{ record: { ...record, ...more }, claims }];
  return formatRuleset(table, networks) + formatTracking(table, networks, 8192);
};

test('nothing is changed where nothing differs', () => {
  assert.equal(changesOf(scriptOf([vm(10)]), scriptOf([vm(10)])), '');
});

test('another VM adds its elements and the rules of its tap, and no rule is deleted for that', (t) => {
  const changes = changesOf(scriptOf([vm(10)]), scriptOf([vm(10), vm(11)])) ?? '';
  t.assert.snapshot(changes, { serializers: [String] });
  assert.ok(changes.length < scriptOf([]).length / 2);
  assert.doesNotMatch(changes, /^(delete|flush)/m);
});

test('a VM that is gone takes its elements along', () => {
  const changes = changesOf(scriptOf([vm(10), vm(11)]), scriptOf([vm(11)])) ?? '';
  const deleted = changes.match(/^delete element .*$/gm) ?? [];
  assert.equal(changes.match(/^add element/gm), null);
  for (const element of ['192.168.122.10', 'fd00:1::10', '52:54:00:00:00:10', '8010', '"qmp10"']) {
    assert.ok(
      deleted.some((line) => line.includes(element)),
      element,
    );
  }
});

test('a port that leads to another VM is deleted before it is added', () => {
  const moved = { ...vm(11), ports: vm(10).ports };
  const changes = changesOf(scriptOf([vm(10)]), scriptOf([moved])) ?? '';
  const map = `${table} published {`;
  const lines = changes.split('\n').filter((line) => line.includes(map));
  assert.deepEqual(
    lines.map((line) => line.split(' ')[0]),
    ['delete', 'add'],
  );
});

test('whichever VMs come and go, their elements do, and no others', () => {
  const numbers = [10, 11, 12, 13];
  const some = Array.from({ length: 15 }, (_, at) =>
    numbers.filter((_number, bit) => (((at + 1) >> bit) & 1) === 1),
  );
  const elements = (those: readonly number[]) => those.map((number) => vm(number).ip).join(', ');
  for (const had of some) {
    for (const has of some) {
      const changes = changesOf(scriptOf(had.map(vm)), scriptOf(has.map(vm))) ?? '';
      const gone = had.filter((number) => !has.includes(number));
      const come = has.filter((number) => !had.includes(number));
      const expected = [
        ...(gone.length === 0 ? [] : [`delete element inet ${table} guests { ${elements(gone)} }`]),
        ...(come.length === 0 ? [] : [`add element inet ${table} guests { ${elements(come)} }`]),
      ];
      const lines = changes.split('\n').filter((line) => line.includes(`inet ${table} guests {`));
      assert.deepEqual(lines, expected, `${had} → ${has}`);
    }
  }
});

for (const [what, before, after] of [
  ['from no network', formatRuleset(table, []) + formatTracking(table, [], 8192), scriptOf([])],
  ['another subnet', scriptOf([]), scriptOf([], { address: '10.0.0.1' })],
  ['another maximum', scriptOf([]), scriptOf([]).replaceAll('8192', '4096')],
] as const) {
  test(`what sets and chains are themselves is no change of them: ${what}`, () => {
    assert.equal(changesOf(before, after), undefined);
  });
}
