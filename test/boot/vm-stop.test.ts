import assert from 'node:assert/strict';
import { test } from 'node:test';
import { identify, pause } from '#host';
import { QmpClient } from '#qmp';
import type { StopRequest } from '#vm';
import { patient } from '../support/patience.ts';
import { sendCommand } from '../support/qmp-commands.ts';
import { booted, canRunVms, soon, VmGround } from '../support/vm.ts';

const politely = (graceMs: number): StopRequest => ({ graceMs, immediately: false });
/** Which of its last steps ends a QEMU depends on how busy the host is: each has 150 ms. */
const endedByUs = /^(host-qmp-quit|host-signal|killed)$/;

async function took(action: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await action();
  return performance.now() - begin;
}

test('V-87 D12: a guest that obeys ends by itself, long before its time is up', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const domain = await virtualizer.createDomain(ground.spec(0, pipes), soon());
  await log.until(/GUEST-BOOT/);
  const waiter = domain.wait(soon());
  const ms = await took(() => virtualizer.stopDomain('vm-0', politely(patient(10_000))));
  assert.ok(ms < patient(2000), `${ms} ms`);
  assert.equal(domain.state, 'exited', 'D35 D36: the answer to a stop means that the VM has ended');
  assert.equal(identify(domain.record.pid), undefined);
  assert.deepEqual(await waiter, {
    exitCode: 0,
    signal: 0,
    oomKilled: false,
    error: undefined,
    reason: 'guest-shutdown',
  });
  await log.ended;
  assert.match(log.text, /GUEST-BUTTON\r\nGUEST-OFF/);
  assert.deepEqual(
    ground.told().filter((it) => /button|powered|Killing|ending/.test(it)),
    ['ACPI power button pressed', 'Guest powered off'],
  );
});

test('V-87 V-104 D12: a guest that is deaf is ended within the grace it was given', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(1), soon());
  await booted(domain);
  const ms = await took(() => virtualizer.stopDomain('vm-0', politely(1500)));
  assert.ok(ms >= 900, `the guest had only ${ms} ms`);
  assert.ok(ms <= patient(2000), `${ms} ms`);
  assert.match(domain.exit?.reason ?? '', endedByUs);
  assert.equal(domain.exit?.error, undefined);
  assert.ok(ground.told().includes('Guest did not power off in time; ending QEMU'));
});

test('V-87: a paused guest is woken to hear the button', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(0);
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await starter.kill();
  {
    await using qmp = await QmpClient.connect(ground.paths().qmp, soon());
    await eventuallyRunning(qmp);
  }
  await sendCommand(ground.paths().qmp, 'stop', {}, soon());
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.recoverDomain(record, spec, soon());
  assert.equal(domain?.state, 'paused');
  const ms = await took(() => virtualizer.stopDomain('vm-0', politely(patient(8000))));
  assert.ok(ms < patient(4000), `${ms} ms`);
  assert.equal(domain.exit?.reason, 'guest-shutdown');
});

test('V-87: at once means at once', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  for (const [name, request] of [
    ['vm-0', { graceMs: 10_000, immediately: true }],
    ['vm-1', politely(0)],
  ] as const) {
    const domain = await virtualizer.createDomain(ground.spec(0, { name }), soon());
    const ms = await took(() => virtualizer.stopDomain(name, request));
    assert.ok(ms < patient(2000), `${ms} ms`);
    assert.deepEqual(domain.exit, {
      exitCode: 137,
      signal: 9,
      oomKilled: false,
      error: undefined,
      reason: 'killed',
    });
  }
});

test('V-87: a QEMU that hangs is ended within the grace', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(0), soon());
  process.kill(domain.record.pid, 'SIGSTOP');
  const ms = await took(() => virtualizer.stopDomain('vm-0', politely(1000)));
  assert.ok(ms <= patient(1300), `${ms} ms`);
  assert.equal(domain.exit?.signal, 9);
});

test('V-87 P-27: stops at the same time are one; a stop after the end and of an unknown VM is fine', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(0), soon());
  await booted(domain);
  const request = politely(patient(5000));
  await Promise.all([1, 2, 3].map(() => virtualizer.stopDomain('vm-0', request)));
  assert.equal(domain.exit?.reason, 'guest-shutdown');
  assert.equal(ground.told().filter((it) => it === 'ACPI power button pressed').length, 1);
  assert.ok((await took(() => virtualizer.stopDomain('vm-0', politely(5000)))) < patient(1000));
  await virtualizer.stopDomain('nobody', politely(5000));
});

test('P-27 D36: a stop that is in a hurry overtakes one that is not', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(1), soon());
  await booted(domain);
  const polite = virtualizer.stopDomain('vm-0', politely(20_000));
  const ms = await took(() =>
    virtualizer.stopDomain('vm-0', { graceMs: 20_000, immediately: true }),
  );
  assert.ok(ms < patient(2000), `${ms} ms`);
  await polite;
  assert.equal(domain.exit?.signal, 9);
});

test('V-87 D12: a stop keeps its own time, whatever other stop is under way', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(1), soon());
  await booted(domain);
  const signalled = virtualizer.stopDomain('vm-0', politely(20_000));
  const ms = await took(() => virtualizer.stopDomain('vm-0', politely(1000)));
  assert.ok(ms >= 900 && ms <= patient(1500), `${ms} ms`);
  await signalled;
  assert.equal(domain.exit?.signal, 9);
});

test('P-27: a polite stop beside a kill is no error', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(1), soon());
  // Two at once, in the order in which the second finds the first one's work half done.
  await Promise.all([
    virtualizer.stopDomain('vm-0', { graceMs: 0, immediately: true }),
    virtualizer.stopDomain('vm-0', politely(2000)),
    virtualizer.destroyDomain('vm-0'),
  ]);
  assert.equal(domain.exit?.signal, 9);
});

test('V-87: a guest that has only just been started hears the button, too', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(0), soon());
  const ms = await took(() => virtualizer.stopDomain('vm-0', politely(patient(8000))));
  assert.equal(domain.exit?.reason, 'guest-shutdown');
  assert.ok(ms < patient(5000), `${ms} ms`);
});

async function eventuallyRunning(qmp: QmpClient): Promise<void> {
  const waiting = soon();
  while (!(await qmp.execute('query-status', {}, waiting)).running) await pause(5, waiting);
}
