import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkAttributes } from '../../src/net/model/network-attributes.ts';

const active = (name: string, bridge = name) => ({
  [`network.${name}.state`]: 'active',
  [`network.${name}.bridge_name`]: bridge,
});

test('V-14: a managed network is active before its first VM, and virbr0 is called default too', () => {
  const expected = { ...active('virbr0'), ...active('default', 'virbr0'), ...active('vms') };
  assert.deepEqual(networkAttributes(['virbr0', 'vms'], []), expected);
  assert.deepEqual(networkAttributes(['virbr0', 'vms'], ['virbr0']), expected);
});

test('V-14: bridges of others follow, each once', () => {
  const expected = { ...active('vms'), ...active('br0'), ...active('docker0') };
  const attributes = networkAttributes(['vms'], ['br0', 'vms', 'docker0']);
  assert.deepEqual(attributes, expected);
  assert.deepEqual(Object.keys(attributes), Object.keys(expected));
});

test('a bridge that is really called default keeps its name', () => {
  const expected = { ...active('virbr0'), ...active('default') };
  assert.deepEqual(networkAttributes(['virbr0'], ['default']), expected);
});
