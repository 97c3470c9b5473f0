import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { encode } from '@msgpack/msgpack';
import { build } from '../../scripts/build.ts';
import { BasePlugin } from '../../src/plugin/gen/base_pb.ts';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import { freshId, smallest, task } from '../plugin/requests.ts';
import { patient } from '../support/patience.ts';
import { failureOf, type PluginClient, PluginProcess } from '../support/plugin-client.ts';
import { tmpDir } from '../support/tmp.ts';

const { method } = Driver;
const MiB = 2 ** 20;

let executable = '';
before(async () => {
  executable = await build();
});

test('P-43: at rest the plugin is small, and after a storm of calls it is small again', async (t) => {
  await using plugin = await PluginProcess.serve({ program: executable });
  const client = plugin.client();
  const dir = tmpDir(t);
  await client.call(BasePlugin.method.setConfig, {
    pluginApiVersion: 'v0.1.0',
    nomadConfig: {},
    msgpackConfig: encode({ data_dir: `${dir}/data`, run_dir: `${dir}/run` }),
  });
  await settles(plugin, 40, 'at rest');
  await largeCalls(client, 32);
  await smallCalls(client, 16_000);
  t.diagnostic(`${ownMiB(plugin)} MiB after the storm`);
  await settles(plugin, 80, 'after the storm');
  t.diagnostic(`${ownMiB(plugin)} MiB settled`);
});

async function settles(plugin: PluginProcess, mostMiB: number, when: string): Promise<void> {
  const end = performance.now() + patient(15_000);
  while (ownMiB(plugin) > mostMiB && performance.now() < end) await delay(100);
  assert.ok(ownMiB(plugin) <= mostMiB, `${ownMiB(plugin)} MiB ${when}`);
}

/** All at the same time; each has its right answer. */
async function smallCalls(client: PluginClient, count: number): Promise<void> {
  const calls = Array.from({ length: count }, async (_, index) => {
    const taskId = freshId();
    if (index % 3 === 0) return (await failureOf(client.call(method.inspectTask, { taskId }))).code;
    if (index % 3 === 1)
      return (await failureOf(client.call(method.createNetwork, { allocId: taskId }))).code;
    return client.stream(method.taskStats, { taskId }).end;
  });
  assert.deepEqual(new Set(await Promise.all(calls)), new Set([5, 12, 0]));
}

/** Jobs with 4 MiB of user data, refused for what else is in them. */
async function largeCalls(client: PluginClient, count: number): Promise<void> {
  const config = { ...smallest, hostname: '!', user_data: `#cloud-config\n${'#'.repeat(4 * MiB)}` };
  const calls = Array.from({ length: count }, () =>
    failureOf(client.call(method.startTask, { task: task({ id: freshId(), config }) })),
  );
  for (const { details } of await Promise.all(calls)) assert.match(details, /hostname/);
}

/** Its own memory. The pages of its file, some 50 to 70 MiB of them, are the page cache's and as many as that likes. */
function ownMiB({ pid }: PluginProcess): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/^RssAnon:\s+(\d+)/m.exec(status)?.[1]) / 1024);
}
