import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { identify } from '#host';
import { Driver, type TaskHandle } from '../../src/plugin/gen/driver_pb.ts';
import { GRPCController } from '../../src/plugin/gen/go_plugin_pb.ts';
import { patient } from '../support/patience.ts';
import { failureOf } from '../support/plugin-client.ts';
import { launch, sectorTask } from '../support/sector-task.ts';
import { canRunVms, eventually, VmGround } from '../support/vm.ts';

const { method } = Driver;
const force = true;

test('P-23 P-26 P-27 P-36: a task on the real QEMU from StartTask to DestroyTask', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  ground.read(pipes.stderrPath);
  const { plugin, client } = await launch(ground);
  await using _plugin = plugin;
  const events = client.stream(method.taskEvents, {});
  const request = sectorTask(ground, pipes);
  const taskId = request.id ?? '';
  const begun = performance.now();
  const { handle } = await client.call(method.startTask, { task: request });
  assert.ok(performance.now() - begun < patient(5000));
  assert.equal(handle?.config?.id, taskId);
  await log.until(/./, 15_000);
  await events.until(1);

  const { driver, task: status } = await client.call(method.inspectTask, { taskId });
  assert.equal(status?.state, 1);
  assert.ok(identify(Number(driver?.attributes.pid)), JSON.stringify(driver?.attributes));
  const stats = client.stream(method.taskStats, { taskId, collectionInterval: { nanos: 2e8 } });
  await stats.until(3);
  const last = stats.messages.at(-1)?.stats?.aggResourceUsage;
  assert.ok(Number(last?.memory?.rss) > 2 ** 20);
  assert.ok(last?.cpu?.measuredFields.includes(5), 'PERCENT');

  const waiting = client.call(method.waitTask, { taskId });
  await client.call(method.stopTask, { taskId, timeout: { seconds: 1n } });
  const { result } = await waiting;
  assert.ok(result);
  assert.equal(await stats.end, 0);
  assert.equal((await client.call(method.inspectTask, { taskId })).task?.state, 2);
  await client.call(method.destroyTask, { taskId, force });
  assert.deepEqual(await ground.leftovers(), []);
  await log.ended;
});

test('P-24 V-99: a start that fails reports why, and nothing of it is left', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const { plugin, client } = await launch(ground);
  await using _plugin = plugin;
  const request = sectorTask(ground, { config: { image: '/etc/passwd' } });
  const failure = await failureOf(client.call(method.startTask, { task: request }));
  assert.match(failure.details, /\/etc\/passwd/);
  assert.deepEqual(await ground.leftovers(), []);
});

test('P-37 P-39 P-41: the plugin is killed, the VM stays, the next plugin has it again', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const first = await launch(ground);
  const request = sectorTask(ground);
  const taskId = request.id ?? '';
  const { handle } = await first.client.call(method.startTask, { task: request });
  const pidOf = async ({ client }: typeof first): Promise<number> =>
    Number((await client.call(method.inspectTask, { taskId })).driver?.attributes.pid);
  const pid = await pidOf(first);
  first.plugin.kill('SIGKILL');
  const killed = performance.now();
  await first.plugin.exit;
  assert.ok(performance.now() - killed < patient(1000), 'nobody else holds its pipes');
  await first.plugin[Symbol.asyncDispose]();

  const second = await launch(ground);
  await recover(second, handle);
  assert.equal(await pidOf(second), pid);
  // P-11: an orderly end leaves it alone as well.
  await second.client.call(GRPCController.method.shutdown, {});
  await second.plugin.exit;
  await second.plugin[Symbol.asyncDispose]();
  assert.ok(identify(pid));

  const third = await launch(ground);
  await using _third = third.plugin;
  await recover(third, handle);
  const waiting = third.client.call(method.waitTask, { taskId });
  await third.client.call(method.stopTask, { taskId, signal: 'SIGKILL' });
  await waiting;
  await third.client.call(method.destroyTask, { taskId, force });
  assert.deepEqual(await ground.leftovers(), []);
});

async function recover(
  { client }: Awaited<ReturnType<typeof launch>>,
  handle: TaskHandle | undefined,
): Promise<void> {
  assert.ok(handle?.config);
  // The part that does not survive an agent's restart.
  const config = { ...handle.config, msgpackDriverConfig: new Uint8Array() };
  const begun = performance.now();
  await client.call(method.recoverTask, { handle: { ...handle, config } });
  assert.ok(performance.now() - begun < patient(1000));
}

test('P-40: a VM that ended while no plugin ran is reported as ended, not adopted', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const first = await launch(ground);
  const request = sectorTask(ground);
  const taskId = request.id ?? '';
  const { handle } = await first.client.call(method.startTask, { task: request });
  const { driver } = await first.client.call(method.inspectTask, { taskId });
  const pid = Number(driver?.attributes.pid);
  first.plugin.kill('SIGKILL');
  await first.plugin.exit;
  await first.plugin[Symbol.asyncDispose]();
  process.kill(pid, 'SIGKILL');
  await eventually(() => identify(pid) === undefined, 'the end of QEMU');

  const next = await launch(ground);
  await using _next = next.plugin;
  assert.ok(handle);
  const recovered = await next.client.call(method.recoverTask, { handle }).then(
    () => true,
    () => false,
  );
  if (recovered) {
    const { result, err } = await next.client.call(method.waitTask, { taskId });
    assert.notEqual(result?.exitCode, 0);
    assert.notEqual(err, '');
  }
  await next.client.call(method.destroyTask, { taskId, force });
  assert.deepEqual(await ground.leftovers(), []);
});

test('P-20: the fingerprint of this host', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const { plugin, client } = await launch(ground);
  await using _plugin = plugin;
  const [first] = await client.stream(method.fingerprint, {}).until(1, 20_000);
  assert.equal(first?.health, 2, first?.healthDescription);
  assert.ok(first.attributes['driver.virt.emulator.version']?.value.value);
  assert.equal(existsSync(join(ground.root, 'run')), false);
});
