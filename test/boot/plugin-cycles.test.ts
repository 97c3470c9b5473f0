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
  // Deadlines that nothing waits for any more may run for half a minute, and hold their signals until then.
  const end = performance.now() + patient(35_000);
  let after = await alive(plugin);
  while (kept(before, after).length > 0 && performance.now() < end) after = await alive(plugin);
  t.diagnostic(JSON.stringify({ before, after }));
  assert.deepEqual(kept(before, after), []);
  assert.deepEqual(await ground.leftovers(), []);
});

/**
 * What grew from `before` to `now` as only something kept in each cycle grows: one object kept a cycle would be a hundred,
 * while some come and go with the runtime's own work; the heap also has the compiler's work on warm functions.
 */
function kept(before: Alive, now: Alive): readonly (keyof Alive)[] {
  const allowed: Alive = {
    objects: cycles / 2,
    signals: cycles / 10,
    heapBytes: 2 ** 20,
    // Namespaces for the next VM are made a moment after the last one.
    descriptors: cycles / 10,
  };
  return (Object.keys(allowed) as (keyof Alive)[]).filter(
    (it) => now[it] - before[it] >= allowed[it],
  );
}

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
