import assert from 'node:assert/strict';
import { accessSync, constants, readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { findByMark, isAlive, kill, spawnDetached } from '#host';
import { type Emulator, findEmulators } from '#qemu';
import { guestMessage } from '../../src/qemu/kvm/guest.ts';
import { probeKvm } from '../../src/qemu/kvm/probe.ts';
import { runGuest } from '../../src/qemu/kvm/run.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';

const mark = 'nomad-driver-qmp-kvm-probe';
const nobody = { uid: 65_534, gid: 65_534 };
const waiting = (ms = 20_000): { signal: AbortSignal } => ({
  signal: AbortSignal.timeout(patient(ms)),
});

async function emulatorFor(t: TestContext): Promise<Emulator | undefined> {
  const found = (await findEmulators(waiting())).usable.find(({ arch }) => arch === 'x86_64');
  return requireOrSkip(t, found !== undefined, 'needs qemu-system-x86_64') ? found : undefined;
}

/** Processes and descriptors that a probe might leave. */
async function leftovers(): Promise<{
  readonly processes: number;
  readonly descriptors: number;
}> {
  return {
    processes: (await findByMark(`${mark}-${process.pid}-`, [nobody.uid], waiting())).length,
    descriptors: readdirSync('/proc/self/fd').length,
  };
}

test('the probe guest runs to its end', async (t) => {
  const emulator = await emulatorFor(t);
  if (emulator === undefined) return;
  const before = await leftovers();
  const run = await runGuest(emulator, ['-accel', 'tcg'], waiting());
  assert.equal(run.messages, '');
  assert.equal(run.end, 'exit');
  assert.equal(run.code, 0);
  assert.ok(run.serial.includes(guestMessage));
  assert.deepEqual(await leftovers(), before);
});

test('V-79: the probe guest for arm64 runs to its end', async (t) => {
  const found = (await findEmulators(waiting())).usable.find(({ arch }) => arch === 'aarch64');
  if (found === undefined) return void requireOrSkip(t, false, 'needs qemu-system-aarch64');
  const cpu = process.arch === 'arm64' ? 'max' : 'cortex-a57';
  const run = await runGuest(found, ['-accel', 'tcg', '-cpu', cpu], waiting());
  assert.deepEqual([run.end, run.code, run.messages], ['exit', 0, '']);
  assert.ok(run.serial.includes(guestMessage));
});

test('V-129: the probe runs with the rights a VM will have', async (t) => {
  const emulator = await emulatorFor(t);
  if (emulator === undefined) return;
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root to become another user')) return;
  const run = await runGuest(emulator, ['-accel', 'tcg'], waiting(), nobody);
  assert.ok(run.serial.includes(guestMessage), run.messages);
});

test('V-75: whether KVM is usable is found out by running a guest, quickly and tidily', async (t) => {
  const emulator = await emulatorFor(t);
  if (emulator === undefined) return;
  const before = await leftovers();
  const begin = Date.now();
  const verdict = await probeKvm(emulator, waiting());
  assert.ok(Date.now() - begin < patient(6000));
  t.diagnostic(JSON.stringify(verdict));
  assert.ok(verdict.reason.length > 10);
  if (!canOpen('/dev/kvm')) assert.equal(verdict.usable, false);
  assert.equal(await probeKvm(emulator, waiting()), verdict, 'remembered');
  assert.deepEqual(await leftovers(), before);
});

function canOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

test('a guest of another architecture never gets KVM', async (t) => {
  const emulator = await emulatorFor(t);
  if (emulator === undefined) return;
  const foreign = { ...emulator, arch: 'aarch64', path: '/no/such/emulator' } as const;
  if (process.arch !== 'x64') return void requireOrSkip(t, false, 'needs an x86-64 host');
  const { usable, reason } = await probeKvm(foreign, waiting());
  assert.equal(usable, false);
  assert.match(reason, /x86_64/);
});

test('an impatient caller ends the probe and its QEMU', async (t) => {
  const emulator = await emulatorFor(t);
  if (emulator === undefined) return;
  const before = await leftovers();
  await assert.rejects(runGuest(emulator, ['-accel', 'tcg', '-S'], waiting(60)), {
    name: 'TimeoutError',
  });
  assert.deepEqual(await leftovers(), before);
});

test('a probe guest whose maker was killed is ended by the next probe', async (t) => {
  const emulator = await emulatorFor(t);
  if (emulator === undefined) return;
  const args = ['-name', `${mark}-4194305-17`, '-machine', 'none', '-display', 'none', '-S'];
  const orphan = await spawnDetached({
    program: emulator.path,
    args,
    stdio: ['ignore', 'ignore', 'ignore'],
  });
  t.after(() => kill(orphan.identity, waiting()));
  await runGuest(emulator, ['-accel', 'tcg'], waiting());
  assert.equal((await orphan.exit).signal, 'SIGKILL');
});

test('a probe ends nothing that merely names one: a pager of root, a VM whose task has such a name', async (t) => {
  const emulator = await emulatorFor(t);
  if (emulator === undefined) return;
  const stdio = ['ignore', 'ignore', 'ignore'] as const;
  const gone = `${mark}-4194303-1`;
  const pager = await spawnDetached({
    program: '/usr/bin/tail',
    args: ['-f', '/dev/null', `/var/log/${mark}-notes.txt`, gone],
    stdio,
  });
  const vm = await spawnDetached({
    program: emulator.path,
    args: ['-name', `guest=${gone}`, '-machine', 'none', '-display', 'none', '-nodefaults'],
    stdio,
    ...nobody,
  });
  const strangers = [pager.identity, vm.identity];
  try {
    await runGuest(emulator, ['-accel', 'tcg'], waiting(), nobody);
    assert.deepEqual(
      strangers.filter((it) => !isAlive(it)),
      [],
    );
  } finally {
    for (const stranger of strangers) await kill(stranger, waiting());
  }
});
