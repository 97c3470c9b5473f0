import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeVmUndo, undoStep, type VmUndo } from '../../src/vm/store/undo.ts';
import { unreachablePool } from '../support/ceph.ts';

/** Every kind of step, as it is written into an undo log. */
const kinds: Readonly<Record<string, VmUndo>> = {
  'a mount': { kind: 'mount', target: '/run/nomad-driver-qmp/12345678' },
  "a process with the VM's own user": {
    kind: 'process',
    mark: '83c5b4f2-72de-88e5-b967-d4b519ea8d10',
    program: '/usr/bin/qemu-system-x86_64',
    uid: 1_900_000_000,
  },
  "a process of root's": { kind: 'process', mark: '/run/x/shares/alloc', program: '/usr/bin/vfsd' },
  'a disk in a pool': { kind: 'file', path: '/srv/pool/vms/web-12345678_vdb.img' },
  'an image of Ceph': { kind: 'rbd', pool: 'ceph', image: 'web-12345678_vdb' },
  'a user id': { kind: 'uid', file: '/data/uids/1900000000', name: 'web-12345678' },
  'a bridge': { kind: 'net', step: { kind: 'net-bridge', bridge: 'virbr0' } },
  'an address': {
    kind: 'net',
    step: { kind: 'net-claim', bridge: 'virbr0', ip: '192.0.2.2', vm: 'web-12345678', index: 0 },
  },
  'a tap': { kind: 'net', step: { kind: 'net-tap', tap: 'tap0', vm: 'web-12345678', index: 0 } },
};
for (const [name, step] of Object.entries(kinds)) {
  test(`the undo step of ${name} is read back as it was written`, () => {
    assert.deepEqual(decodeVmUndo(JSON.parse(JSON.stringify(step))), step);
  });
}

/** Steps that this version must not perform: of a later one, or broken. */
const unknown: Readonly<Record<string, unknown>> = {
  'of a later version': { kind: 'swtpm', socket: '/run/x/tpm.sock' },
  'of a later version in the network': { kind: 'net', step: { kind: 'net-macvtap', link: 'eth0' } },
  'without a kind': { target: '/run/x' },
  'without its target': { kind: 'mount' },
  'with a mark that is in too many command lines': { kind: 'process', mark: 'a', program: '/x' },
  "with root's user id for a process of a VM": {
    kind: 'process',
    mark: 'long enough',
    program: '/x',
    uid: 0,
  },
  'with a user id that is no number': {
    kind: 'process',
    mark: 'long enough',
    program: '/x',
    uid: '7',
  },
  'that is a text': 'mount',
  'that is null': null,
};
for (const [name, json] of Object.entries(unknown)) {
  test(`an undo step ${name} is kept as unknown`, () => {
    assert.deepEqual(decodeVmUndo(json), { kind: 'unknown', json: JSON.stringify(json) });
  });
}

test('of a long unknown step a part is shown', () => {
  const step = decodeVmUndo({ kind: 'future', text: 'x'.repeat(1000) });
  assert.ok(step.kind === 'unknown');
  assert.equal(step.json.length, 200);
});

test('undoing an unknown step fails and names it, so that it stays in the log', async () => {
  const step = decodeVmUndo({ kind: 'swtpm' });
  const networks = { vmTerminatedTeardown: async () => assert.fail('not a step of the network') };
  await assert.rejects(
    undoStep(
      step,
      { networks, pools: { pools: [], default: undefined } },
      { signal: AbortSignal.timeout(1000) },
    ),
    /the undo step \{"kind":"swtpm"\}: update/,
  );
});

test('V-51: an image that can not be removed is named with its storage pool', async (t) => {
  const pools = [unreachablePool(t)];
  const networks = { vmTerminatedTeardown: async () => assert.fail('not a step of the network') };
  await assert.rejects(
    undoStep(
      { kind: 'rbd', pool: 'far', image: 'vm-0_vdb' },
      { networks, pools: { pools, default: undefined } },
      { signal: AbortSignal.timeout(10_000) },
    ),
    {
      message:
        'image vm-0_vdb in storage pool "far": rbd status: couldn\'t connect to the cluster!',
      recoverable: true,
    },
  );
});
