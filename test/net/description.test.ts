import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeNetworks } from '../../src/net/description.ts';

const active = (name: string, bridge = name) => ({ name, bridge, state: 'active' });

test('V-14: a managed network is active before its first VM, and virbr0 is called default too', () => {
  const expected = [active('virbr0'), active('default', 'virbr0'), active('vms')];
  assert.deepEqual(describeNetworks(['virbr0', 'vms'], []), expected);
  assert.deepEqual(describeNetworks(['virbr0', 'vms'], ['virbr0']), expected);
});

test('V-14: bridges of others follow, each once', () => {
  const expected = [active('vms'), active('br0'), active('docker0')];
  assert.deepEqual(describeNetworks(['vms'], ['br0', 'vms', 'docker0']), expected);
});

test('a bridge that is really called default keeps its name', () => {
  const expected = [active('virbr0'), active('default')];
  assert.deepEqual(describeNetworks(['virbr0'], ['default']), expected);
});
