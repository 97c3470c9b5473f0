import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { BasePlugin } from '../../src/plugin/gen/base_pb.ts';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import { freshId, task } from '../plugin/requests.ts';
import type { Alive } from '../support/heap-probe.ts';
import { patient } from '../support/patience.ts';
import { type PluginClient, PluginProcess } from '../support/plugin-client.ts';
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
  const image = ground.spec(0).disk.image;
  for (let count = 0; count < warmUps; count += 1) await cycle(client, ground, image);
  const before = await alive(plugin);
  for (let count = 0; count < cycles; count += 1) await cycle(client, ground, image);
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

async function configure(client: PluginClient, { options }: VmGround): Promise<void> {
  await client.call(BasePlugin.method.setConfig, {
    pluginApiVersion: 'v0.1.0',
    nomadConfig: {},
    msgpackConfig: encode({
      data_dir: options.dataDir,
      run_dir: options.runDir,
      image_paths: options.imagePaths,
      uid_range: options.uidRange,
      limits: { min_memory_mb: 16, min_disk_mb: 1 },
    }),
  });
}

/** A task's life as Nomad leads it: its calls and streams are open until the task is destroyed. */
async function cycle(client: PluginClient, ground: VmGround, image: string): Promise<void> {
  const taskId = freshId();
  const allocDir = join(ground.root, 'alloc');
  mkdirSync(join(allocDir, 'web'), { recursive: true });
  await client.call(method.startTask, {
    task: task({
      id: taskId,
      allocDir,
      stdoutPath: '/dev/null',
      stderrPath: '/dev/null',
      resources: {
        allocatedResources: { memory: { memoryMb: 32n } },
        linuxResources: { cpusetCpus: '' },
      },
      config: { image, primary_disk_size: 1, use_thin_copy: true, vcpus: 1, accelerator: 'tcg' },
    }),
  });
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
