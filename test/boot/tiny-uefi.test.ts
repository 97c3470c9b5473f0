import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { groundFor, guestOrSkip, guestSpec, powerOff, told } from '../support/live-vm.ts';
import { requireOrSkip } from '../support/require.ts';
import { soon } from '../support/vm.ts';

const template = '/usr/share/OVMF/OVMF_VARS_4M.fd';

test('V-80: a disk that boots by UEFI only gets it, with variables of its own', async (t) => {
  const guest = await guestOrSkip(t, 'tiny-uefi');
  if (guest === undefined || !requireOrSkip(t, existsSync(template), 'needs ovmf')) return;
  await using ground = groundFor(guest);
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const virtualizer = ground.virtualizer();
  const before = readFileSync(template);
  const domain = await virtualizer.createDomain(guestSpec(ground, guest, pipes), soon(60_000));
  await told(log, /TINY-READY/, 120_000);
  const { firmwareVars } = ground.paths();
  assert.equal(statSync(firmwareVars).mode & 0o777, 0o600);
  assert.ok(!readFileSync(firmwareVars).equals(before), 'the firmware has written into them');
  assert.ok(readFileSync(template).equals(before), 'and not into the template');
  assert.equal((await powerOff(virtualizer, domain))?.reason, 'guest-shutdown');
  await virtualizer.destroyDomain(domain.name);
  assert.ok(!existsSync(firmwareVars));
});
