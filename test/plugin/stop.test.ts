import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { create } from '@bufbuild/protobuf';
import { toStatus } from '../../src/plugin/error/status.ts';
import { Driver, TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import { createLog } from '../../src/plugin/serve/log.ts';
import { readSignal, readStop } from '../../src/plugin/tasks/signals.ts';
import { Tasks } from '../../src/plugin/tasks/tasks.ts';
import { diskOn } from '../support/disks.ts';
import { patient } from '../support/patience.ts';
import { failureOf } from '../support/plugin-client.ts';
import { ProcessVirtualizer } from '../support/process-virtualizer.ts';
import { dataDirOf, freshId, shared, smallest, task } from './requests.ts';

const { method } = Driver;
const force = true;
const deaf = ["trap '' TERM", 'while :; do sleep 0.1; done'];
const slow = ["trap 'sleep 0.5; exit 0' TERM", 'while :; do sleep 0.1; done'];

async function start(cmds: readonly string[]) {
  const { client } = await shared();
  const id = freshId();
  await client.call(method.startTask, { task: task({ id, config: { ...smallest, cmds } }) });
  // Until the shell has set its trap.
  await delay(200);
  return { client, id };
}

test('P-27 P-31 V-87: a stop that comes while a signal is heeded waits no longer than its timeout', async () => {
  const { client, id } = await start(deaf);
  const begun = performance.now();
  await client.call(method.signalTask, { taskId: id, signal: 'SIGTERM' });
  assert.ok(performance.now() - begun < patient(1000), 'a signal is not waited for');
  await client.call(method.stopTask, { taskId: id, timeout: { nanos: 400_000_000 } });
  const { result } = await client.call(method.waitTask, { taskId: id });
  assert.equal(result?.signal, 9);
  const took = performance.now() - begun;
  assert.ok(took >= 350 && took < patient(3000), `${took} ms`);
  await client.call(method.destroyTask, { taskId: id });
});

test('P-27 P-31 V-94: a stop that takes its time is cut short by SIGKILL and by DestroyTask', async () => {
  for (const cutShort of ['SIGKILL', 'DestroyTask']) {
    const { client, id } = await start(deaf);
    const begun = performance.now();
    const waiting = client.call(method.waitTask, { taskId: id });
    const stopping = client.call(method.stopTask, { taskId: id, timeout: { seconds: 60n } });
    await delay(200);
    if (cutShort === 'SIGKILL') {
      await client.call(method.signalTask, { taskId: id, signal: 'SIGKILL' });
    } else await client.call(method.destroyTask, { taskId: id, force });
    assert.equal((await waiting).result?.signal, 9);
    await stopping;
    assert.ok(performance.now() - begun < patient(5000), cutShort);
    await client.call(method.destroyTask, { taskId: id, force });
  }
});

test('P-27 V-87: a kill_timeout longer than a timer can be gives the guest its time', async () => {
  const { client, id } = await start(slow);
  // 30 days.
  await client.call(method.stopTask, { taskId: id, timeout: { seconds: 2_592_000n } });
  const { result } = await client.call(method.waitTask, { taskId: id });
  assert.deepEqual([result?.exitCode, result?.signal], [0, 0]);
  await client.call(method.destroyTask, { taskId: id });
  const day = { graceMs: 86_400_000, immediately: false };
  for (const ms of [86_400_001, 2 ** 31, 1e18, Infinity]) assert.deepEqual(readStop('', ms), day);
  assert.deepEqual(readStop('', 5000), { graceMs: 5000, immediately: false });
});

async function tasksOf(t: TestContext, o: { readonly startMs: number }) {
  const dataDir = dataDirOf(t);
  const backend = new ProcessVirtualizer(dataDir);
  await backend.start();
  const log = createLog({ module: 'test', level: 'error', file: undefined });
  return { dataDir, tasks: new Tasks({ backend: async () => backend, log, ...o }) };
}

test('P-24 V-99: a start that takes longer than it may is over, leaves nothing and may be tried again', async (t) => {
  const { dataDir, tasks } = await tasksOf(t, { startMs: 150 });
  const id = freshId();
  const config = create(TaskConfigSchema, task({ id, config: { ...smallest, image: '/slow' } }));
  const limits = { minMemoryMiB: 1, minDiskMiB: 1, maxDiskMiB: 1e6, maxConnections: 16 };
  const names = { taskId: id, taskName: config.name, allocId: config.allocId };
  const { spec } = planTask(config, {
    driverName: 'virt',
    limits,
    hostArch: 'x86_64',
    pools: { pools: [], default: undefined },
  });
  const failure = await tasks.start(names, spec, new AbortController()).catch((it: unknown) => it);
  const { code, message, details } = toStatus(failure);
  assert.equal(code, 9);
  assert.match(message, /^VM web-[0-9a-f]{8} was not started within 0\.15 s: /);
  assert.ok(details, 'recoverable');
  assert.deepEqual(readdirSync(dataDir), ['emulator']);
  await tasks.start(names, { ...spec, disks: [diskOn('/a', 1)] }, new AbortController());
  await tasks.destroy(id, force);
});

test('V-139: a start that was called off reports that first, and is not tried again', async () => {
  const { client } = await shared();
  for (const callOff of ['stopped', 'destroyed'] as const) {
    const id = freshId();
    const request = task({ id, config: { ...smallest, image: '/slow' } });
    const starting = failureOf(client.call(method.startTask, { task: request }));
    await delay(200);
    if (callOff === 'stopped') await client.call(method.stopTask, { taskId: id });
    else await client.call(method.destroyTask, { taskId: id, force });
    const failure = await starting;
    assert.match(failure.details, new RegExp(`^the task was ${callOff} while it started`));
    assert.deepEqual(failure.metadata.get('grpc-status-details-bin'), []);
  }
});

test('V-94: a signal is a verb, and an unknown one is answered with the list', async () => {
  const act = (name: string) => readSignal(name);
  assert.deepEqual(act('SIGSTOP'), { kind: 'act', action: 'pause' });
  assert.deepEqual(act('SIGCONT'), { kind: 'act', action: 'resume' });
  assert.deepEqual(act('SIGQUIT'), { kind: 'act', action: 'reset' });
  assert.deepEqual(act('SIGUSR1'), { kind: 'act', action: 'nmi' });
  assert.deepEqual(act('SIGHUP'), { kind: 'command' });
  assert.equal(act('SIGINT').kind, 'stop');
  assert.throws(
    () => act('SIGWINCH'),
    /"SIGWINCH" has no meaning for a VM; supported are SIGTERM, SIGINT, SIGKILL, SIGSTOP, SIGCONT, SIGQUIT, SIGHUP, SIGUSR1$/,
  );
  const { client, id } = await start(slow);
  for (const signal of ['SIGSTOP', 'SIGCONT']) {
    await client.call(method.signalTask, { taskId: id, signal });
  }
  await client.call(method.destroyTask, { taskId: id, force });
  const late = await failureOf(client.call(method.signalTask, { taskId: id, signal: 'SIGSTOP' }));
  assert.match(late.details, /task not found/);
});
