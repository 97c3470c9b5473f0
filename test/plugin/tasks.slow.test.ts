import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fromBinary } from '@bufbuild/protobuf';
import { identify } from '#host';
import { BasePlugin } from '../../src/plugin/gen/base_pb.ts';
import { Driver } from '../../src/plugin/gen/driver_pb.ts';
import { GRPCController } from '../../src/plugin/gen/go_plugin_pb.ts';
import { StatusSchema } from '../../src/plugin/gen/rpc_status_pb.ts';
import { RecoverableErrorSchema } from '../../src/plugin/gen/structs_pb.ts';
import { patient } from '../support/patience.ts';
import { failureOf, type PluginClient } from '../support/plugin-client.ts';
import { dataDirOf, freshId, processPlugin, shared, smallest, task } from './requests.ts';

const { method } = Driver;
const force = true;
const foreignState = {
  version: 1,
  startedAtMs: 1,
  record: { name: 'other', dir: '/nowhere', pid: 1, startTicks: '1', bootId: 'never' },
};

async function setUp(t: TestContext) {
  const dataDir = dataDirOf(t);
  const { plugin, client } = await processPlugin({ dataDir });
  t.after(() => plugin[Symbol.asyncDispose]());
  return { dataDir, plugin, client };
}

/** Starts a task that runs these shell commands instead of a guest. */
async function start(client: PluginClient, cmds: readonly string[] = [], id = freshId()) {
  const request = task({ id, config: { ...smallest, cmds } });
  const response = await client.call(method.startTask, { task: request });
  return { id, request, response };
}

test('P-23 V-30 V-122: StartTask answers with the handle that recovery needs, the configuration echoed whole', async () => {
  const { client } = await shared();
  const request = task({
    id: freshId(),
    config: {
      ...smallest,
      default_user_password: 'hush',
      network_interface: [{ bridge: { name: 'virbr0', ports: ['http'] } }],
    },
  });
  const { handle, networkOverride } = await client.call(method.startTask, { task: request });
  assert.equal(handle?.version, 1);
  assert.equal(handle?.state, 1);
  assert.equal(handle?.config?.id, request.id);
  assert.ok(
    Buffer.from(request.msgpackDriverConfig).equals(
      handle?.config?.msgpackDriverConfig ?? new Uint8Array(),
    ),
  );
  assert.deepEqual(handle?.config?.env, request.env);
  assert.equal(handle?.config?.resources?.allocatedResources?.memory?.memoryMb, 512n);
  assert.doesNotMatch(Buffer.from(handle?.driverState ?? []).toString(), /hush/);
  // V-122 D17: the guest's address reaches Nomad.
  assert.equal(networkOverride?.addr, '192.0.2.7');
  assert.deepEqual(networkOverride?.portMap, { http: 80 });
  // Only on request: other hosts reach the guest by the host's address and ports alone.
  assert.equal(networkOverride?.autoAdvertise, false);
  const inspected = await client.call(method.inspectTask, { taskId: request.id });
  assert.deepEqual(inspected.networkOverride, networkOverride);
  await client.call(method.destroyTask, { taskId: request.id, force });
});

test('V-29: a second StartTask of the same id is refused and does not touch the first', async () => {
  const { client } = await shared();
  const { id } = await start(client);
  const failure = await failureOf(client.call(method.startTask, { task: task({ id }) }));
  assert.equal(failure.details, `task with ID "${id}" already started`);
  assert.equal((await client.call(method.inspectTask, { taskId: id })).task?.state, 1);
  await client.call(method.destroyTask, { taskId: id, force });
});

test('V-99: of two tasks of a group with one port label the second is refused for good, with the name of the first', async () => {
  const { client } = await shared();
  const allocId = 'b0000000-0000-4000-8000-000000000001';
  const publishing = (name: string, alloc = allocId, image = '/images/a.raw') =>
    task({
      id: `${alloc}/${name}/0123abcd`,
      name,
      allocId: alloc,
      config: {
        ...smallest,
        image,
        network_interface: [{ bridge: { name: 'virbr0', ports: ['http'] } }],
      },
    });
  const words =
    'network_interface[0].bridge.ports: the port "http" is that of task "web" in this group already, ' +
    'and goes to one guest only: give each task a port with a label of its own';
  const refused = async () => {
    const failure = await failureOf(client.call(method.startTask, { task: publishing('side') }));
    assert.equal(failure.details, words);
    assert.equal(failure.code, 3);
    assert.deepEqual(failure.metadata.get('grpc-status-details-bin'), []);
  };
  const web = publishing('web');
  await client.call(method.startTask, { task: web });
  await refused();
  const shown = task({
    id: `${allocId}/screen/0123abcd`,
    name: 'screen',
    allocId,
    config: { ...smallest, display: { vnc: { port: 'http', password: 'hush' } } },
  });
  const { details } = await failureOf(client.call(method.startTask, { task: shown }));
  assert.match(details, /^display\.vnc\.port: the port "http" is that of task "web" in this group/);
  const other = publishing('side', 'b0000000-0000-4000-8000-000000000002');
  await client.call(method.startTask, { task: other });
  await client.call(method.destroyTask, { taskId: other.id, force });
  // One that has ended has no ports.
  await client.call(method.stopTask, { taskId: web.id, timeout: { seconds: 5n } });
  const side = publishing('side');
  await client.call(method.startTask, { task: side });
  for (const { id } of [web, side]) await client.call(method.destroyTask, { taskId: id, force });
  // One that starts has them.
  const slow = publishing('web', allocId, '/slow');
  const starting = failureOf(client.call(method.startTask, { task: slow }));
  await refused();
  await client.call(method.destroyTask, { taskId: slow.id, force });
  await starting;
});

test('P-24 V-99: a start that may be tried again has that in the status detail, another has not', async () => {
  const { client, dataDir } = await shared();
  const busy = task({ id: freshId(), config: { ...smallest, image: '/busy' } });
  const retry = await failureOf(client.call(method.startTask, { task: busy }));
  assert.equal(retry.code, 9);
  const [bytes] = retry.metadata.get('grpc-status-details-bin');
  const status = fromBinary(StatusSchema, Buffer.from(bytes ?? ''));
  assert.equal(status.code, 9);
  assert.equal(status.message, 'no room just now');
  assert.equal(
    status.details[0]?.typeUrl,
    'type.googleapis.com/hashicorp.nomad.plugins.shared.structs.RecoverableError',
  );
  const detail = fromBinary(RecoverableErrorSchema, status.details[0]?.value ?? new Uint8Array());
  assert.equal(detail.recoverable, true);

  const wrong = task({ id: freshId(), config: { ...smallest, image: '/job' } });
  const permanent = await failureOf(client.call(method.startTask, { task: wrong }));
  assert.equal(permanent.code, 3);
  assert.deepEqual(permanent.metadata.get('grpc-status-details-bin'), []);
  assert.deepEqual(readdirSync(dataDir), ['emulator']);
  // Nothing of it is known either, so the same id may start.
  await client.call(method.startTask, { task: task({ id: busy.id }) });
  await client.call(method.destroyTask, { taskId: busy.id, force });
});

test('D27: problems of files are reported together with those of the configuration, each with its key and once', async () => {
  const { client } = await shared();
  const wrong = async (image: unknown, memoryMb: bigint): Promise<string> => {
    const config = { ...smallest, image, hostname: '-' };
    const resources = {
      allocatedResources: { memory: { memoryMb } },
      linuxResources: { cpusetCpus: '0' },
    };
    const job = task({ id: freshId(), config, resources });
    return (await failureOf(client.call(method.startTask, { task: job }))).details;
  };
  assert.match(
    await wrong('/missing', 1n),
    /: 3 problems: resources\.memory: .*; hostname: "-" must .*; image: no such image: \/missing$/,
  );
  const once = await wrong(7, 0n);
  assert.match(once, /: 3 problems: /);
  for (const key of [/image: /g, /resources\.memory: /g]) assert.equal(once.match(key)?.length, 1);
});

test('P-25: tasks with odd names start side by side and are distinguished', async () => {
  const { client, dataDir } = await shared();
  const names = [
    'my task',
    'my,task',
    'my"task',
    'Überfall',
    'x'.repeat(128),
    '-',
    '日本語',
    'My-Task',
  ];
  const ids = names.map((name) => ({ name, id: freshId(name) }));
  for (const { name, id } of ids) {
    await client.call(method.startTask, { task: task({ id, name }) });
  }
  const files = readdirSync(dataDir).filter((it) => it.endsWith('.json'));
  assert.equal(files.length, names.length);
  for (const file of files) assert.match(file, /^[a-z0-9-]{1,56}\.json$/);
  for (const { id } of ids) await client.call(method.destroyTask, { taskId: id, force });
  assert.deepEqual(readdirSync(dataDir), ['emulator']);
});

const ends = [
  { name: 'power-off', cmds: ['exit 0'], result: [0, 0], err: '' },
  { name: 'failure', cmds: ['exit 7'], result: [7, 0], err: 'ended by exit code 7' },
  { name: 'kill', cmds: ['kill -9 $$'], result: [137, 9], err: 'ended by SIGKILL' },
] as const;
for (const { name, cmds, result, err } of ends) {
  test(`P-26 V-90 D18: WaitTask gives every caller the same result: ${name}`, async () => {
    const { client } = await shared();
    const { id } = await start(client, ['sleep 0.3', ...cmds]);
    const early = await Promise.all([
      client.call(method.waitTask, { taskId: id }),
      client.call(method.waitTask, { taskId: id }),
    ]);
    const asked = performance.now();
    const late = await client.call(method.waitTask, { taskId: id });
    assert.ok(performance.now() - asked < patient(200));
    for (const answer of [...early, late]) {
      assert.deepEqual([answer.result?.exitCode, answer.result?.signal], result);
      assert.equal(answer.result?.oomKilled, false);
      assert.equal(answer.err, err);
    }
    await client.call(method.destroyTask, { taskId: id });
    const gone = await failureOf(client.call(method.waitTask, { taskId: id }));
    assert.equal(gone.code, 5);
    assert.equal(gone.details, 'task not found for given id');
  });
}

test('P-26: a WaitTask can be cancelled; the task does not mind', async () => {
  const { client } = await shared();
  const { id } = await start(client);
  const failure = await failureOf(
    client.call(method.waitTask, { taskId: id }, AbortSignal.timeout(100)),
  );
  assert.equal(failure.code, 1);
  assert.equal((await client.call(method.inspectTask, { taskId: id })).task?.state, 1);
  await client.call(method.destroyTask, { taskId: id, force });
});

test('P-27 V-87 V-88 D12 D13: StopTask asks politely, waits no longer than its timeout, and WaitTask answers', async () => {
  const { client } = await shared();
  const polite = await start(client);
  const waiting = client.call(method.waitTask, { taskId: polite.id });
  await client.call(method.stopTask, { taskId: polite.id, timeout: { seconds: 10n } });
  assert.equal((await waiting).result?.exitCode, 0);

  const deaf = await start(client, ["trap '' TERM", 'while :; do sleep 0.1; done']);
  await delay(200);
  const begun = performance.now();
  await client.call(method.stopTask, { taskId: deaf.id, timeout: { nanos: 500_000_000 } });
  const took = performance.now() - begun;
  assert.ok(took >= 450 && took < patient(3000), `${took} ms`);
  const { result } = await client.call(method.waitTask, { taskId: deaf.id });
  assert.deepEqual([result?.exitCode, result?.signal], [137, 9]);
  for (const { id } of [polite, deaf]) await client.call(method.destroyTask, { taskId: id });
});

test('P-27 V-86 D36: StopTask of an unknown or ended task is fine; timeout 0 and SIGKILL do not wait', async () => {
  const { client } = await shared();
  await client.call(method.stopTask, { taskId: 'never/was/00000000', timeout: { seconds: 5n } });
  for (const request of [
    { timeout: { seconds: 0n } },
    { timeout: { seconds: 30n }, signal: 'SIGKILL' },
  ]) {
    const { id } = await start(client, ["trap '' TERM", 'while :; do sleep 0.1; done']);
    await delay(200);
    const begun = performance.now();
    await client.call(method.stopTask, { taskId: id, ...request });
    assert.ok(performance.now() - begun < patient(2000));
    await client.call(method.stopTask, { taskId: id, ...request });
    await client.call(method.destroyTask, { taskId: id });
  }
});

test('V-139: StopTask calls off a start that is still waiting, and nothing of it is left', async () => {
  const { client, dataDir } = await shared();
  const request = task({ id: freshId(), config: { ...smallest, image: '/slow' } });
  const starting = failureOf(client.call(method.startTask, { task: request }));
  await delay(200);
  const begun = performance.now();
  await client.call(method.stopTask, { taskId: request.id, timeout: { seconds: 5n } });
  await starting;
  assert.ok(performance.now() - begun < patient(2000));
  assert.deepEqual(readdirSync(dataDir), ['emulator']);
});

test('P-28 V-91 D14 D15 D40: DestroyTask kills only by force, forgets the id, and can be repeated', async () => {
  const { client, dataDir } = await shared();
  const { id } = await start(client);
  const refused = await failureOf(client.call(method.destroyTask, { taskId: id }));
  assert.equal(refused.details, 'cannot destroy running task');
  const { driver } = await client.call(method.inspectTask, { taskId: id });
  const pid = Number(driver?.attributes.pid);
  assert.ok(identify(pid));
  const waiting = client.call(method.waitTask, { taskId: id });
  const stats = client.stream(method.taskStats, { taskId: id });
  await stats.until(1);
  await client.call(method.destroyTask, { taskId: id, force });
  assert.equal((await waiting).result?.signal, 9);
  assert.equal(await stats.end, 0);
  assert.equal(identify(pid), undefined);
  assert.deepEqual(readdirSync(dataDir), ['emulator']);
  await client.call(method.destroyTask, { taskId: id, force });
  for (const call of [
    client.call(method.inspectTask, { taskId: id }),
    client.call(method.waitTask, { taskId: id }),
    client.call(method.signalTask, { taskId: id, signal: 'SIGTERM' }),
    client.call(method.destroyTask, { taskId: id }),
  ]) {
    assert.equal((await failureOf(call)).details, 'task not found for given id');
  }
});

test('P-29 V-92 D36: InspectTask has every part Nomad insists on, running or not', async () => {
  const { client } = await shared();
  const { id } = await start(client);
  const running = await client.call(method.inspectTask, { taskId: id });
  assert.equal(running.task?.id, id);
  assert.equal(running.task?.name, 'web');
  assert.equal(running.task?.state, 1);
  assert.ok(Number(running.task?.startedAt?.seconds) > 1_700_000_000);
  assert.equal(running.task?.completedAt?.seconds, -62_135_596_800n);
  assert.equal(running.task?.completedAt?.nanos, 0);
  assert.equal(running.task?.result?.exitCode, 0);
  await client.call(method.stopTask, { taskId: id, timeout: { seconds: 5n } });
  const exited = await client.call(method.inspectTask, { taskId: id });
  assert.equal(exited.task?.state, 2);
  assert.ok(Number(exited.task?.completedAt?.seconds) > 1_700_000_000);
  await client.call(method.destroyTask, { taskId: id });
});

test('P-31 V-94: SignalTask presses the button or pulls the plug; other names are refused with the list', async () => {
  const { client } = await shared();
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGKILL']) {
    const { id } = await start(client);
    await client.call(method.signalTask, { taskId: id, signal });
    const { result } = await client.call(method.waitTask, { taskId: id });
    assert.equal(result?.signal, signal === 'SIGKILL' ? 9 : 0);
    await client.call(method.destroyTask, { taskId: id });
  }
  const { id } = await start(client);
  for (const signal of ['SIGUSR2', '', '__proto__', 'sigterm']) {
    const failure = await failureOf(client.call(method.signalTask, { taskId: id, signal }));
    assert.match(failure.details, /SIGTERM, SIGINT, SIGKILL/);
  }
  await client.call(method.destroyTask, { taskId: id, force });
});

test('P-34: networks are refused with words', async () => {
  const { client } = await shared();
  const refusals = [
    [client.call(method.createNetwork, {}), 'CreateNetwork is not supported by this driver'],
    [client.call(method.destroyNetwork, {}), 'DestroyNetwork is not supported by this driver'],
  ] as const;
  for (const [call, words] of refusals) {
    const failure = await failureOf(call);
    assert.equal(failure.code, 12);
    assert.equal(failure.details, words);
  }
});

test('P-37 P-39 P-41: another process recovers a task from a handle without the driver configuration', async (t) => {
  const { client, dataDir, plugin } = await setUp(t);
  const { id, response } = await start(client);
  const handle = response.handle;
  assert.ok(handle?.config);
  const { driver } = await client.call(method.inspectTask, { taskId: id });
  // P-38: known already.
  await client.call(method.recoverTask, { handle });
  plugin.kill('SIGKILL');
  await plugin.exit;

  const next = await processPlugin({ dataDir });
  t.after(() => next.plugin[Symbol.asyncDispose]());
  const config = { ...handle.config, msgpackDriverConfig: new Uint8Array() };
  const begun = performance.now();
  await next.client.call(method.recoverTask, { handle: { ...handle, config } });
  assert.ok(performance.now() - begun < patient(1000));
  const after = await next.client.call(method.inspectTask, { taskId: id });
  assert.equal(after.driver?.attributes.pid, driver?.attributes.pid);
  const waiting = next.client.call(method.waitTask, { taskId: id });
  await next.client.call(method.stopTask, { taskId: id, timeout: { seconds: 5n } });
  await waiting;
  await next.client.call(method.destroyTask, { taskId: id });
});

const handles = {
  'a version of the future': { version: 99 },
  'no state': { driverState: new Uint8Array() },
  'a state that is not JSON': { driverState: Buffer.from('<state/>') },
  'the state of another VM': { driverState: Buffer.from(JSON.stringify(foreignState)) },
} as const;
for (const [name, change] of Object.entries(handles)) {
  test(`P-38: a task that is known already is recovered by a handle with ${name}`, async () => {
    const { client } = await shared();
    const { id, response } = await start(client);
    assert.ok(response.handle);
    await client.call(method.recoverTask, { handle: { ...response.handle, ...change } });
    assert.equal((await client.call(method.inspectTask, { taskId: id })).task?.state, 1);
    await client.call(method.destroyTask, { taskId: id, force });
  });
}

test('P-38: after its agent died the plugin serves the next one: no reader, a new connection, the old tasks', async (t) => {
  const { client, plugin } = await setUp(t);
  const { id, response } = await start(client);
  const pending = client.call(method.waitTask, { taskId: id }).catch(() => {});
  const events = client.stream(method.taskEvents, {});
  plugin.closePipes();
  client.close();
  events.cancel();
  await pending;

  const next = plugin.client();
  await next.call(BasePlugin.method.pluginInfo, {});
  await next.call(method.init, {});
  const fingerprint = next.stream(method.fingerprint, {});
  await fingerprint.until(1);
  assert.ok(response.handle?.config);
  const config = { ...response.handle.config, msgpackDriverConfig: new Uint8Array() };
  const begun = performance.now();
  await next.call(method.recoverTask, { handle: { ...response.handle, config } });
  assert.ok(performance.now() - begun < patient(1000));
  const waiting = next.call(method.waitTask, { taskId: id });
  await next.call(method.stopTask, { taskId: id, timeout: { seconds: 5n } });
  assert.equal((await waiting).result?.exitCode, 0);
  await next.call(method.destroyTask, { taskId: id });
  fingerprint.cancel();
});

test('P-11 P-39 V-8 V-97: an orderly Shutdown leaves what runs alone', async (t) => {
  const { client, dataDir, plugin } = await setUp(t);
  const { id } = await start(client);
  const { driver } = await client.call(method.inspectTask, { taskId: id });
  const waiting = client.call(method.waitTask, { taskId: id }).catch(() => {});
  const stats = client.stream(method.taskStats, { taskId: id });
  await stats.until(1);
  const begun = performance.now();
  await client.call(method.shutdown, {});
  await client.call(GRPCController.method.shutdown, {});
  assert.equal((await plugin.exit).code, 0);
  assert.ok(performance.now() - begun < patient(2000));
  await waiting;
  assert.ok(identify(Number(driver?.attributes.pid)));

  // V-91: the next process removes it from disk alone, as after a failed recovery.
  const next = await processPlugin({ dataDir });
  t.after(() => next.plugin[Symbol.asyncDispose]());
  await next.client.call(method.destroyTask, { taskId: id, force });
  assert.equal(identify(Number(driver?.attributes.pid)), undefined);
});

test('P-40 V-93: a task that ended while no plugin ran is not adopted', async (t) => {
  const { client, dataDir, plugin } = await setUp(t);
  const { id, response } = await start(client);
  plugin.kill('SIGKILL');
  await plugin.exit;
  const [file = ''] = readdirSync(dataDir).filter((it) => it.endsWith('.json'));
  process.kill(JSON.parse(readFileSync(join(dataDir, file), 'utf8')).pid, 'SIGKILL');
  const next = await processPlugin({ dataDir });
  t.after(() => next.plugin[Symbol.asyncDispose]());
  assert.ok(response.handle);
  const recovery = next.client.call(method.recoverTask, { handle: response.handle });
  assert.equal((await failureOf(recovery)).details, 'task not found for given id');
  await next.client.call(method.destroyTask, { taskId: id, force });
});

test('P-24: the rest of a start cut short is removed before the same id starts again', async (t) => {
  const { client, dataDir, plugin } = await setUp(t);
  const { id } = await start(client);
  const first = (await client.call(method.inspectTask, { taskId: id })).driver?.attributes.pid;
  plugin.kill('SIGKILL');
  await plugin.exit;
  const next = await processPlugin({ dataDir });
  t.after(() => next.plugin[Symbol.asyncDispose]());
  await start(next.client, [], id);
  assert.equal(identify(Number(first)), undefined);
  await next.client.call(method.destroyTask, { taskId: id, force });
});
