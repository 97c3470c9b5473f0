import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import type { Alive } from '../support/heap-probe.ts';
import { patient } from '../support/patience.ts';
import { type PluginClient, PluginProcess } from '../support/plugin-client.ts';
import { configure, sectorTask } from '../support/sector-task.ts';
import { canRunVms, VmGround } from '../support/vm.ts';

const { method } = Driver;
const warmUps = 20;
const cycles = 100;

test('P-43: what a hundred tasks leave in the plugin is nothing', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const probe = resolve(import.meta.dirname, '../support/heap-probe.ts');
  await using plugin = await PluginProcess.serve({
    env: { PATH: process.env.PATH },
    nodeArgs: ['--expose-gc', '--disable-warning=ExperimentalWarning', `--import=${probe}`],
  });
  const client = plugin.client();
  await configure(client, ground);
  for (let count = 0; count < warmUps; count += 1) await cycle(client, ground);
  const before = await alive(plugin);
  for (let count = 0; count < cycles; count += 1) await cycle(client, ground);
  // One object kept a cycle would be a hundred; some come and go with the runtime's own work. Deadlines that nobody waits
  // for any more may run for half a minute.
  const end = performance.now() + patient(35_000);
  const kept = (now: Alive): boolean => now.objects - before.objects >= cycles / 2;
  let after = await alive(plugin);
  while (kept(after) && performance.now() < end) after = await alive(plugin);
  t.diagnostic(JSON.stringify({ before, after }));
  assert.ok(!kept(after), 'objects');
  assert.ok(after.signals - before.signals < cycles / 10, 'signals');
  assert.equal(after.descriptors, before.descriptors);
  // The compiler's work on warm functions is in it.
  assert.ok(after.heapBytes - before.heapBytes < 2 ** 20, 'heap');
  assert.deepEqual(await ground.leftovers(), []);
});

/** A task's life as Nomad leads it: its calls and streams are open until the task is destroyed. */
async function cycle(client: PluginClient, ground: VmGround): Promise<void> {
  const request = sectorTask(ground);
  const taskId = request.id;
  await client.call(method.startTask, { task: request });
  const stats = client.stream(method.taskStats, { taskId });
  const ended = client.call(method.waitTask, { taskId });
  await client.call(method.inspectTask, { taskId });
  await client.call(method.stopTask, { taskId, signal: 'SIGKILL' });
  await ended;
  await client.call(method.destroyTask, { taskId, force: true });
  await stats.end;
}

async function alive(plugin: PluginProcess): Promise<Alive> {
  const answers = (): readonly string[] => plugin.stderr.filter((it) => it.startsWith('alive '));
  const known = answers().length;
  plugin.kill('SIGUSR2');
  await plugin.until('count of what is alive', () => answers().length > known);
  return JSON.parse(answers().at(-1)?.slice('alive '.length) ?? '');
}
