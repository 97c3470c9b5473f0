import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { patient } from '../support/patience.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

type Json = Record<string, unknown>;

/** A running VM whose record another release wrote: adopted, looked at, stopped and removed by this one. */
async function adoptWith(ground: VmGround, change: (record: Json) => Json): Promise<void> {
  const spec = ground.spec(0, ground.pipes());
  const starter = await ground.starter(spec);
  const known = await starter.create();
  await starter.kill();
  const { record: path, disk } = ground.paths();
  const written: Json = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(path, JSON.stringify(change(written)));
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.recoverDomain(known, spec, soon());
  assert.equal(domain?.state, 'running');
  assert.equal(domain.record.pid, known.pid);
  assert.equal(domain.attributes.disk, disk);
  assert.ok((await domain.usage(soon())).pids.includes(known.pid));
  await virtualizer.stopDomain('vm-0', { graceMs: patient(5000), immediately: false });
  assert.equal((await domain.wait(soon())).error, undefined);
  await virtualizer.destroyDomain('vm-0');
  assert.deepEqual(await ground.leftovers(), []);
}

test('V-96 V-97: a VM with a record of the first release is adopted while it runs', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  await adoptWith(ground, ({ devices, helpers, ...first }) => {
    assert.ok(Array.isArray(helpers));
    assert.ok(Array.isArray(devices) && devices.length >= 2, 'it is a record of this release');
    // All that the first release required, and nothing that it did not know.
    for (const key of ['image', 'diskPath', 'nics', 'cgroup']) {
      assert.ok(key === 'cgroup' || Object.hasOwn(first, key), key);
    }
    return first;
  });
});

test('V-96 V-97: a VM with a record of a later release is adopted while it runs', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  await adoptWith(ground, (record) => {
    const devices = Array.isArray(record.devices) ? record.devices : [];
    return {
      ...record,
      placement: { numa: [0] },
      devices: [{ kind: 'gpu', id: 'gpu0', address: '0000:01:00.0' }, ...devices],
    };
  });
});
