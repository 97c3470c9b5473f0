import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeNetworks } from '../../src/net/description.ts';

const active = (name: string, bridge = name) => ({ name, bridge, state: 'active' });

test('V-14: a managed network is active before its first VM, and virbr0 is called default too', () => {
  const expected = [active('virbr0'), active('default', 'virbr0'), active('vms')];
  assert.deepEqual(describeNetworks(['virbr0', 'vms'], []), expected);
  assert.deepEqual(describeNetworks(['virbr0', 'vms'], ['virbr0']), expected);
});

test('V-14: bridges of others are told, but not those that come and go with containers', () => {
  const come = ['docker0', 'br-0123456789ab', 'cni0', 'cni-podman0', 'nomad', 'lxcbr0', 'veth12'];
  const stay = ['br0', 'br-lan', 'nomad-vms', 'virbr1'];
  assert.deepEqual(
    describeNetworks([], [...come, ...stay]),
    stay.map((name) => active(name)),
  );
  assert.deepEqual(describeNetworks(['cni0'], come), [active('cni0')]);
});

test('a bridge that is really called default keeps its name', () => {
  const expected = [active('virbr0'), active('default')];
  assert.deepEqual(describeNetworks(['virbr0'], ['default']), expected);
});
