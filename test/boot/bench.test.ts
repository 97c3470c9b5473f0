import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BarePath } from '../../bench/bare.ts';
import { BareBridge } from '../../bench/bare-host.ts';
import { DriverPath } from '../../bench/driver.ts';
import { canRunVms } from '../support/vm.ts';

test('the bench starts a whole job beside another one, and the same machine bare', async (t) => {
  if (!canRunVms(t)) return;
  await using driver = await DriverPath.open();
  using bridge = new BareBridge();
  const kept = await driver.start('whole');
  const vm = await driver.start('whole');
  const { startMs, firstByteMs } = await (await BarePath.prepare(vm.argv, bridge)).run();
  await driver.kill(vm);
  await driver.kill(kept);
  assert.ok(startMs < firstByteMs);
});
