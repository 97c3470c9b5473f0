import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ReadySpec } from '#spec';
import { groundFor, guestOrSkip, guestSpec, port, told } from '../support/live-vm.ts';
import { patient } from '../support/patience.ts';
import { eventually, soon, type VmGround } from '../support/vm.ts';

const all: ReadySpec = {
  agent: true,
  port: 'http',
  log: '^TINY-READY \\d+',
  timeoutMs: 600_000,
  fail: false,
};
const nics = [{ kind: 'bridge', bridge: 'virbr0', ports: [port('http', 20_080, 80)] }] as const;
const readyEvents = (ground: VmGround): readonly string[] =>
  ground.told().filter((message) => /ready/i.test(message));

test('V-100: a guest becomes ready by agent, port and console, across a restart of the plugin', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const spec = guestSpec(ground, guest, { ...pipes, nics, ready: all });
  const starter = await ground.starter(spec);
  const known = await starter.create();
  await told(log, /TINY-INIT/, 120_000);
  await starter.kill();
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.recoverDomain(known, spec, soon());
  assert.ok(domain !== undefined);
  await eventually(() => readyEvents(ground).length > 0, 'the event', 120_000);
  await told(log, /TINY-READY/, 60_000);
  assert.match(readyEvents(ground).join(), /^Guest is ready after \d+ (s|min)/);
  assert.equal(domain.attributes.health, 'ready');

  await virtualizer[Symbol.asyncDispose]();
  const next = ground.virtualizer();
  const again = await next.recoverDomain(known, spec, soon());
  assert.equal(again?.attributes.health, 'ready');
  await next.stopDomain(again.name, { graceMs: patient(30_000), immediately: false });
  assert.equal(readyEvents(ground).length, 1, 'no second event');
});

test('V-100: a task that is to fail when its guest is not ready in time fails with the reason', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const virtualizer = ground.virtualizer();
  const ready = { agent: false, log: 'never', timeoutMs: 2000, fail: true };
  const domain = await virtualizer.createDomain(guestSpec(ground, guest, { ready }), soon(60_000));
  const { exitCode, error, reason } = await domain.wait(soon(60_000));
  assert.deepEqual({ exitCode, reason }, { exitCode: 1, reason: 'not-ready' });
  assert.match(error ?? '', /^Guest is not ready after 2 s: its console has not shown/);
});

test('a port of a guest whose address the driver does not know is refused before the start', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  await using ground = groundFor(guest);
  const virtualizer = ground.virtualizer();
  const ready = { agent: false, port: 22, timeoutMs: 2000, fail: false };
  await assert.rejects(
    virtualizer.createDomain(guestSpec(ground, guest, { ready }), soon(60_000)),
    { code: 'job', message: /^ready\.port: .*use "agent" or "log"/ },
  );
  assert.deepEqual(await ground.leftovers(), []);
});
