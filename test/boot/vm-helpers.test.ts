import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pidfdSignal } from '#host';
import { readRecord } from '../../src/vm/store/record.ts';
import { findVirtiofsd } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

test('V-68: a virtiofsd that dies is an event, and a stop does not wait its whole grace for the guest', async (t) => {
  if (!canRunVms(t)) return;
  if (!requireOrSkip(t, findVirtiofsd() !== undefined, 'needs virtiofsd')) return;
  await using ground = VmGround.open();
  const source = join(ground.taskDir, 'data');
  mkdirSync(source);
  const virtualizer = ground.virtualizer();
  // A guest that is deaf to the power button, as one is that waits for a directory.
  const shares = [{ tag: 'data', source, target: '/data', readOnly: true }];
  const domain = await virtualizer.createDomain(ground.spec(1, { shares }), soon(60_000));
  const [helper] = (await readRecord(ground.paths().record))?.helpers ?? [];
  assert.ok(helper !== undefined);
  pidfdSignal({ ...helper, bootId: domain.record.bootId }, 9);
  await eventually(
    () => ground.told().some((event) => event.startsWith('virtiofsd has ended: ')),
    'the event',
    20_000,
  );
  const started = performance.now();
  await virtualizer.stopDomain(domain.name, { graceMs: 600_000, immediately: false });
  assert.ok(performance.now() - started < 300_000, 'it waited for the guest');
  assert.equal(domain.state, 'exited');
  await virtualizer.destroyDomain(domain.name);
});
