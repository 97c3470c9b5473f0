import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { diskOn } from '../support/disks.ts';
import { canRunVms, eventually, soon, VmGround } from '../support/vm.ts';
import { watchdogGuest } from '../support/watchdog-guest.ts';

type Action = 'reset' | 'poweroff' | 'pause';

async function hang(ground: VmGround, action: Action | undefined) {
  const image = watchdogGuest(ground.taskDir);
  const disks = [diskOn(image, 64)];
  const watchdog = action === undefined ? {} : { watchdog: { action } };
  const virtualizer = ground.virtualizer();
  return await virtualizer.createDomain(ground.spec(0, { disks, ...watchdog }), soon());
}

test('a guest that hangs is reset by its watchdog, and goes on to be one VM', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const domain = await hang(ground, 'reset');
  await eventually(() => ground.told().includes('Guest rebooted'), 'the watchdog fires');
  assert.ok(ground.told().includes('Watchdog fired'));
  assert.equal(domain.state, 'running');
});

test('a guest that hangs is powered off by its watchdog, which is a failure with its cause', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const domain = await hang(ground, 'poweroff');
  const { exitCode, reason, error } = await domain.wait(soon());
  assert.equal(reason, 'watchdog');
  assert.equal(exitCode, 1);
  assert.equal(error, 'task has crashed: the guest system no longer fed its watchdog');
});

test('a guest that hangs is paused by its watchdog', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const domain = await hang(ground, 'pause');
  await eventually(() => domain.state === 'paused', 'the guest stands still');
});

test('without the block there is no watchdog', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const { record } = await hang(ground, undefined);
  assert.doesNotMatch(readFileSync(`/proc/${record.pid}/cmdline`, 'utf8'), /i6300esb|watchdog=/);
});
