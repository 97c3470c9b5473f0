import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../support/live-vm.ts';
import { booted, canRunVms, soon, VmGround } from '../support/vm.ts';

test('V-103: disks, processors and groups of a VM are counted, and those of an adopted one', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(0, { vcpus: 2 });
  const first = ground.virtualizer();
  const domain = await first.createDomain(spec, soon());
  await booted(domain);
  const { identity, usage, vcpus, disks, nics } = await domain.figures(soon());
  assert.equal(identity.jobId, 'job');
  assert.deepEqual(usage.pids, [domain.record.pid]);
  assert.deepEqual(nics, [], 'it has none');
  assert.deepEqual(
    disks.map(({ name }) => name),
    ['vda'],
  );
  const [disk] = disks;
  assert.ok(disk !== undefined && disk.readBytes >= 512 && disk.reads >= 1, JSON.stringify(disk));
  assert.equal(disk.readErrors + disk.writeErrors, 0);
  assert.deepEqual(
    vcpus.map(({ index }) => index),
    [0, 1],
  );
  assert.ok((vcpus[0]?.runNs ?? 0) > 0);
  const before = vcpus[0]?.runNs ?? 0;
  await first[Symbol.asyncDispose]();
  const adopted = await ground.virtualizer().recoverDomain(domain.record, spec, soon());
  assert.ok(adopted !== undefined);
  const after = await adopted.figures(soon());
  assert.ok((after.vcpus[0]?.runNs ?? 0) >= before);
  assert.ok((after.disks[0]?.readBytes ?? 0) >= disk.readBytes);
});

test('V-103: QEMU that does not answer leaves out what only it knows', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const domain = await ground.virtualizer().createDomain(ground.spec(0), soon());
  await booted(domain);
  const { pid } = domain.record;
  process.kill(pid, 'SIGSTOP');
  try {
    const { disks, usage, vcpus } = await domain.figures(soon());
    assert.deepEqual(disks, []);
    assert.ok(usage.rssBytes > 0);
    assert.equal(vcpus.length, 1);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  const again = await until(
    () => domain.figures(soon()),
    ({ disks }) => disks.length > 0,
    10_000,
  );
  assert.equal(again.vcpus.length, 1);
});
