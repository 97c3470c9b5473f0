import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { identify } from '#host';
import type { VmSpec } from '#spec';
import { undoStep } from '../../src/vm/store/undo.ts';
import { imageOf } from '../support/disks.ts';
import { patient } from '../support/patience.ts';
import { booted, canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

const host = {
  networks: { vmTerminatedTeardown: async () => {} },
  pools: { pools: [], default: undefined },
};

/** A VM of this Nomad client, with an allocation of its own that can be taken away. */
function ofNode(ground: VmGround, name: string, nodeId: string): VmSpec {
  const allocDir = join(ground.root, 'allocs', name);
  const taskDir = join(allocDir, 'task');
  mkdirSync(taskDir, { recursive: true });
  const base = ground.spec(0, { name, allocDir, taskDir });
  return { ...base, identity: { ...base.identity, nodeId } };
}

test('V-98: what no task claims and whose allocation is gone is removed, and nothing else', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const names = ['claimed', 'gone', 'kept', 'foreign'] as const;
  const spec = Object.fromEntries(
    names.map((name) => [name, ofNode(ground, name, name === 'foreign' ? 'node-b' : 'node-a')]),
  ) as Record<(typeof names)[number], VmSpec>;
  for (const name of ['gone', 'kept', 'foreign'] as const) {
    const starter = await ground.starter(spec[name]);
    await starter.create();
    await starter.kill();
  }
  const virtualizer = ground.virtualizer();
  const claimed = await virtualizer.createDomain(spec.claimed, soon());
  assert.deepEqual(await virtualizer.sweep(), [], 'as long as the allocations are there');
  for (const name of ['claimed', 'gone', 'foreign'] as const) {
    rmSync(spec[name].allocDir, { recursive: true });
  }
  assert.deepEqual(await virtualizer.sweep(), ['gone']);
  assert.deepEqual(readdirSync(`${ground.options.dataDir}/vms`).toSorted(), [
    'claimed',
    'foreign',
    'kept',
  ]);
  assert.equal(claimed.state, 'running');
  // Whoever it belonged to, a VM without process and allocation is nobody's.
  const uuid = JSON.parse(readFileSync(ground.paths('foreign').record, 'utf8')).uuid;
  const pid = readdirSync('/proc').find((it) => /^\d+$/.test(it) && cmdline(it).includes(uuid));
  process.kill(Number(pid), 'SIGKILL');
  await eventually(() => identify(Number(pid)) === undefined, 'the end of the foreign QEMU');
  assert.deepEqual(await virtualizer.sweep(), ['foreign']);
});

test('V-98: the rest of a start that never got as far as a record is removed after a while', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const { dir } = ground.paths('half');
  mkdirSync(dir, { recursive: true });
  assert.deepEqual(await virtualizer.sweep(), [], 'it may be on its way');
  const longAgo = Date.now() / 1000 - 3600;
  utimesSync(dir, longAgo, longAgo);
  assert.deepEqual(await virtualizer.sweep(), ['half']);
  assert.ok(!existsSync(dir));
});

test('V-91 D15: what could not be removed is tried again, because nothing else will remove it', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  await virtualizer.createDomain(ground.spec(0), soon());
  const { undo } = ground.paths();
  const good = readFileSync(undo);
  writeFileSync(undo, `{"do":{"kind":"from-the-future"}}\n${good}`);
  await assert.rejects(virtualizer.destroyDomain('vm-0'), /undo/);
  assert.equal(virtualizer.getDomain('vm-0'), undefined);
  assert.deepEqual(await virtualizer.sweep(), [], 'still in the way');
  writeFileSync(undo, good);
  assert.deepEqual(await virtualizer.sweep(), ['vm-0']);
  assert.deepEqual(await ground.leftovers(), []);
});

/** A process of this user that has the mark among its arguments. */
async function marked(ground: VmGround, uid: number, mark: string): Promise<ChildProcess> {
  const child = ground.own(
    spawn('/bin/sh', ['-c', 'echo ready; read -r _', 'sh', mark], {
      uid,
      gid: uid,
      stdio: ['pipe', 'pipe', 'ignore'],
    }),
  );
  assert.ok(child.stdout !== null);
  await once(child.stdout, 'data');
  return child;
}

test('V-91: an emulator that a script started is ended, by its user', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const mark = '2f0e1a3c-1111-8222-9333-444455556666';
  const ours = await marked(ground, 1_900_000_001, mark);
  const reader = await marked(ground, 1000, mark);
  const step = { kind: 'process', mark, program: '/usr/bin/wrapper', uid: 1_900_000_001 } as const;
  await undoStep(step, host, soon());
  await eventually(() => ours.signalCode === 'SIGKILL', 'its end');
  assert.equal(reader.exitCode, null, 'somebody who merely names it is left alone');
});

test('V-129: a user id is not given to another VM while a process still has it', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const uid = 1_900_000_002;
  const file = join(ground.root, String(uid));
  symlinkSync('vm-0', file);
  const child = await marked(ground, uid, 'a stubborn one');
  const step = { kind: 'uid', file, name: 'vm-0' } as const;
  await assert.rejects(undoStep(step, host, soon()), /process \d+ still runs as user 1900000002/);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await undoStep(step, host, soon());
  assert.deepEqual(readdirSync(ground.root).includes(String(uid)), false);
});

test('V-93: a changed run_dir does not make a VM deaf', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(0);
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await starter.kill();
  await using elsewhere = VmGround.open({
    dataDir: ground.options.dataDir,
    runDir: join(ground.root, 'other'),
  });
  const virtualizer = elsewhere.virtualizer();
  const domain = await virtualizer.recoverDomain(record, spec, soon());
  assert.ok(domain !== undefined);
  await booted(domain);
  await virtualizer.stopDomain(spec.name, { graceMs: patient(8000), immediately: false });
  assert.equal(domain.exit?.reason, 'guest-shutdown');
  await virtualizer.destroyDomain(spec.name);
  assert.deepEqual(await ground.leftovers(), []);
});

test('V-93 P-37: with a changed data_dir there are never two VMs of one task', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(0);
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await starter.kill();
  await using elsewhere = VmGround.open({ imagePaths: [dirname(imageOf(spec) ?? '')] });
  const virtualizer = elsewhere.virtualizer();
  await assert.rejects(
    virtualizer.recoverDomain(record, spec, soon()),
    /was started in .*; with data_dir/,
  );
  assert.ok(identify(record.pid) !== undefined);
  // What the client does then.
  await virtualizer.destroyDomain(spec.name);
  assert.equal(identify(record.pid), undefined);
  assert.deepEqual(await ground.leftovers(), []);
});

test('P-7 P-36 V-93: of two plugin processes the newer one has the VM, with its log and its monitor', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const spec = ground.spec(0, pipes);
  const older = await ground.starter(spec);
  const record = await older.create();
  await log.until(/GUEST-TICK/);
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.recoverDomain(record, spec, soon());
  const ticks = (): number => log.text.match(/GUEST-TICK/g)?.length ?? 0;
  const seen = ticks();
  await eventually(() => ticks() >= seen + 2, 'two more ticks');
  await virtualizer.stopDomain(spec.name, { graceMs: patient(10_000), immediately: false });
  assert.equal(domain?.exit?.reason, 'guest-shutdown', 'the guest was asked');
  await log.ended;
  const lines = log.text.split('\r\n');
  assert.equal(lines.filter((it) => it === 'GUEST-OFF').length, 1);
  assert.equal(lines.filter((it) => it === 'GUEST-BUTTON').length, 1);
});

test('P-7 V-93: the older of two plugin processes refuses to end the VM it has let go of', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(0);
  const [older, newer] = [ground.virtualizer(), ground.virtualizer()];
  const domain = await older.createDomain(spec, soon());
  const same = await newer.recoverDomain(domain.record, spec, soon());
  await eventually(
    () => ground.lines.some((it) => it.includes('another plugin process has taken over')),
    'the older one to notice',
  );
  const refusal = /VM vm-0 is managed by another plugin process/;
  for (const immediately of [false, true])
    await assert.rejects(older.stopDomain(spec.name, { graceMs: 8000, immediately }), refusal);
  await assert.rejects(older.destroyDomain(spec.name), refusal);
  assert.equal(same?.state, 'running');
  await newer.destroyDomain(spec.name);
  assert.deepEqual(await ground.leftovers(), []);
});

function cmdline(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}
