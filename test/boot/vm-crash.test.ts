import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify } from '#host';
import { openFiles } from '../support/open-files.ts';
import { canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

test('V-98 V-99 V-117: a process killed at any moment of a start leaves nothing that can not be removed', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const found = { nothing: 0, begun: 0, running: 0 };
  const startMs = await durationOfAStart(ground);
  let next = ground.starter(ground.spec(0));
  for (let round = 0; round < 20; round += 1) {
    const starter = await next;
    // The next one loads while this one works.
    next = ground.starter(ground.spec(0));
    const pauseMs = Math.random() * startMs;
    starter.begin();
    await sleep(pauseMs);
    await starter.kill();
    const left = await ground.leftovers();
    if (left.length === 0) found.nothing += 1;
    else if (left.some((it) => it.startsWith('process'))) found.running += 1;
    else found.begun += 1;
    const virtualizer = ground.virtualizer();
    await virtualizer.destroyDomain('vm-0');
    assert.deepEqual(await ground.leftovers(), [], `after ${pauseMs} ms, when there was ${left}`);
    // Removing what is gone already is fine.
    await virtualizer.destroyDomain('vm-0');
  }
  await next;
  t.diagnostic(
    `killed before anything: ${found.nothing}, during: ${found.begun}, after the spawn: ${found.running}`,
  );
  assert.ok(found.begun + found.running > 0, 'no kill came in time to matter');
});

/** In a process that has started none before, on the machine as busy as it is. */
async function durationOfAStart(ground: VmGround): Promise<number> {
  const starter = await ground.starter(ground.spec(0));
  const begin = performance.now();
  await starter.create();
  const tookMs = performance.now() - begin;
  await starter.kill();
  await ground.virtualizer().destroyDomain('vm-0');
  return tookMs;
}

test('V-98 P-37: what such a start left is removed before the next start of the same VM', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const starter = await ground.starter(ground.spec(0));
  const lost = await starter.create();
  await starter.kill();
  assert.ok(identify(lost.pid) !== undefined);
  const domain = await ground.virtualizer().createDomain(ground.spec(0), soon());
  assert.equal(identify(lost.pid), undefined, 'not two VMs of one name');
  assert.notEqual(domain.record.pid, lost.pid);
  assert.equal(domain.state, 'running');
  const { dataDir } = ground.options;
  assert.deepEqual(readdirSync(`${dataDir}/vms`), ['vm-0']);
  assert.equal(readdirSync(`${dataDir}/uids`).length, 1);
});

test('P-11 V-97: a VM holds nothing of the process that started it, not even what that was started with', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const starter = await ground.starter(ground.spec(0));
  const { pid } = await starter.create();
  // The starter was started with an open file that is not marked as its own only.
  assert.ok(openFiles(starter.pid).includes(starter.stray));
  assert.ok(!openFiles(pid).includes(starter.stray));
  const ends = new Set(openFiles(starter.pid).filter((it) => /^(pipe|socket):/.test(it)));
  assert.deepEqual(
    openFiles(pid).filter((it) => ends.has(it)),
    [],
  );
  await starter.kill();
  await sleep(100);
  assert.ok(identify(pid) !== undefined, 'the VM runs on');
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  assert.doesNotMatch(stat.slice(stat.lastIndexOf(')')), /^\) [ZX]/);
});

test('V-91 D15: a VM is destroyed by a process that knows only its name, and again, and by two at once', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const starter = await ground.starter(ground.spec(0, ground.pipes()));
  const { pid } = await starter.create();
  await starter.kill();
  const [one, two] = [ground.virtualizer(), ground.virtualizer()];
  await Promise.all([one.destroyDomain('vm-0'), two.destroyDomain('vm-0')]);
  assert.equal(identify(pid), undefined);
  assert.deepEqual(await ground.leftovers(), []);
  await one.destroyDomain('vm-0');
  await one.destroyDomain('never-was');
  assert.ok(!existsSync(ground.options.runDir), 'the last VM takes the common directory along');
});

test('V-91 V-86: a running VM is destroyed with everything it had, and its waiters get the result', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(0), soon());
  const waiter = domain.wait(soon());
  await Promise.all([virtualizer.destroyDomain('vm-0'), virtualizer.destroyDomain('vm-0')]);
  assert.equal((await waiter).reason, 'killed');
  assert.equal(virtualizer.getDomain('vm-0'), undefined);
  assert.deepEqual(await ground.leftovers(), []);
  await eventually(() => identify(domain.record.pid) === undefined, 'the end of QEMU');
});

test('V-91: an undo log that can not be read is reported, and nothing is thrown away', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(0), soon());
  await virtualizer.stopDomain('vm-0', { graceMs: 0, immediately: true });
  const { undo } = ground.paths();
  const good = readFileSync(undo);
  writeFileSync(undo, `{"do":\n${good}`);
  await assert.rejects(virtualizer.destroyDomain('vm-0'), /undo log .* line 1 is broken/);
  assert.ok(existsSync(ground.paths().dir));
  assert.equal(domain.state, 'exited');
  writeFileSync(undo, good);
  await virtualizer.destroyDomain('vm-0');
  assert.deepEqual(await ground.leftovers(), []);
});
