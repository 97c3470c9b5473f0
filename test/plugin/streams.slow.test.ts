import assert from 'node:assert/strict';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { CPUUsage_Fields, Driver, MemoryUsage_Fields } from '../../src/plugin/gen/driver_pb.ts';
import { patient } from '../support/patience.ts';
import { failureOf, type PluginProcess } from '../support/plugin-client.ts';
import {
  dataDirOf,
  freshId,
  installEmulator,
  processPlugin,
  shared,
  smallest,
  task,
} from './requests.ts';

const { method } = Driver;
const force = true;
const undetected = 0;
const unhealthy = 1;
const healthy = 2;

async function setUp(t: TestContext, env: Record<string, string> = {}) {
  const dataDir = dataDirOf(t);
  const { plugin, client } = await processPlugin({ dataDir, env });
  t.after(() => plugin[Symbol.asyncDispose]());
  return { dataDir, plugin, client };
}

function openFiles(plugin: PluginProcess): number {
  return readdirSync(`/proc/${plugin.pid}/fd`).length;
}

test('P-20 V-11 V-12: the first fingerprint comes at once, attributes carry the driver’s prefix', async () => {
  const { client } = await shared();
  const begun = performance.now();
  const stream = client.stream(method.fingerprint, {});
  const [first] = await stream.until(1);
  assert.ok(performance.now() - begun < patient(1000));
  assert.equal(first?.health, healthy);
  assert.equal(first?.healthDescription, 'Healthy');
  assert.equal(first?.err, '');
  const { attributes } = first ?? { attributes: {} };
  assert.deepEqual(Object.keys(attributes).toSorted(), [
    'driver.virt',
    'driver.virt.emulator.kvm',
    'driver.virt.emulator.load',
    'driver.virt.emulator.version',
  ]);
  assert.deepEqual(attributes['driver.virt']?.value, { case: 'boolVal', value: true });
  const { value } = attributes['driver.virt.emulator.version'] ?? {};
  assert.deepEqual(value, { case: 'intVal', value: 7_002_022n });
  assert.equal(attributes['driver.virt.emulator.load']?.value.case, 'floatVal');
  assert.deepEqual(attributes['driver.virt.emulator.kvm']?.value, {
    case: 'boolVal',
    value: false,
  });
  stream.cancel();
  assert.equal(await stream.end, 1);
});

test('V-3 V-15 V-46: pools are attributes; what has no effect is one warning; no log has the secret', async (t) => {
  const secret = 'AQBSdFhcGxRHEBAAkMJzKQ5Qw4mH2DdPqVUBDw==';
  const authentication = { username: 'nomad', secret };
  const { plugin, client } = await processPlugin({
    dataDir: dataDirOf(t),
    config: {
      log_level: 'trace',
      provider: { libvirt: { user: 'me', password: 'hush' } },
      storage_pools: {
        default: 'remote',
        directory: { local: { path: '/srv/a' } },
        ceph: { remote: { pool: 'vms', hosts: ['mon1'], authentication } },
      },
    },
  });
  t.after(() => plugin[Symbol.asyncDispose]());
  const stream = client.stream(method.fingerprint, {});
  const [first] = await stream.until(1);
  const pools = Object.entries(first?.attributes ?? {})
    .filter(([key]) => key.includes('storage_pool'))
    .map(([key, { value }]) => [key.replace('driver.virt.storage_pool.', ''), value.value]);
  assert.deepEqual(Object.fromEntries(pools), {
    local: 'directory',
    'local.provider.libvirt': true,
    remote: 'ceph',
    'remote.default': true,
    'remote.provider.libvirt': true,
  });
  stream.cancel();
  await stream.end;
  const warnings = plugin.stderr.filter((line) => line.includes('no effect'));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /"warn".*provider in the plugin configuration: no effect/);
  assert.doesNotMatch(plugin.stderr.join('\n'), /AQBSd|hush/);
});

test('P-20 V-17: what changes is reported, what is gone is cleared, and it recovers when put right', async (t) => {
  const { client, dataDir } = await setUp(t, { NOMAD_DRIVER_QMP_FINGERPRINT_MS: '60' });
  rmSync(join(dataDir, 'emulator'));
  const stream = client.stream(method.fingerprint, {});
  await stream.until(1);
  assert.equal(stream.messages[0]?.health, undetected);
  assert.match(stream.messages[0]?.healthDescription ?? '', /no emulator at \//);
  assert.deepEqual(stream.messages[0]?.attributes, {});
  await delay(400);
  assert.equal(stream.messages.length, 1, 'nothing is sent when nothing changes');

  writeFileSync(join(dataDir, 'network-lan'), '');
  installEmulator(dataDir);
  await stream.until(2);
  assert.equal(stream.messages[1]?.health, healthy);
  const network = 'driver.virt.network.lan';
  assert.equal(stream.messages[1]?.attributes[network]?.value.value, 'active');

  rmSync(join(dataDir, 'network-lan'));
  await stream.until(3);
  assert.deepEqual(stream.messages[2]?.attributes[network]?.value, {
    case: 'stringVal',
    value: '',
  });

  rmSync(join(dataDir, 'emulator'));
  await stream.until(4);
  assert.equal(stream.messages[3]?.health, unhealthy, 'it was here before');
  assert.equal(stream.messages[3]?.attributes['driver.virt.emulator.version']?.value.value, '');
  installEmulator(dataDir);
  await stream.until(5);
  assert.equal(stream.messages[4]?.health, healthy);
  assert.equal(stream.ended, false);
  stream.cancel();
  await stream.end;
});

test('P-20 P-43 V-17: an attribute that is gone is cleared once for every agent that may have it', async (t) => {
  const { client, dataDir } = await setUp(t, { NOMAD_DRIVER_QMP_FINGERPRINT_MS: '60' });
  const put = (name: string) => writeFileSync(join(dataDir, `network-${name}`), '');
  const remove = (name: string) => rmSync(join(dataDir, `network-${name}`));
  const lan = 'driver.virt.network.lan';
  put('lan');
  const first = client.stream(method.fingerprint, {});
  const other = client.stream(method.fingerprint, {});
  for (const stream of [first, other]) {
    const [picture] = await stream.until(1);
    assert.equal(picture?.attributes[lan]?.value.value, 'active');
  }
  remove('lan');
  for (const stream of [first, other]) {
    const [, cleared] = await stream.until(2);
    assert.equal(cleared?.attributes[lan]?.value.value, '');
  }
  await delay(300);
  assert.equal(first.messages.length, 2, 'its absence is no news');
  put('dmz');
  const [, , third] = await first.until(3);
  assert.equal(third?.attributes['driver.virt.network.dmz']?.value.value, 'active');
  assert.equal(third?.attributes[lan], undefined, 'told once');

  for (const stream of [first, other]) {
    stream.cancel();
    await stream.end;
  }
  // With no stream open nobody is told; whoever comes next may be the one who knows of it.
  remove('dmz');
  const next = client.stream(method.fingerprint, {});
  const [picture] = await next.until(1);
  assert.equal(picture?.attributes['driver.virt.network.dmz']?.value.value, '');
  assert.equal(picture?.attributes['driver.virt.emulator.version']?.value.value, 7_002_022n);
  // That stream goes on, so it was heard there: those after it say nothing of it any more.
  const limit = performance.now() + patient(5000);
  for (let left = [''] as readonly string[]; left.length > 0; await delay(50)) {
    assert.ok(performance.now() < limit, `still cleared: ${left}`);
    const later = client.stream(method.fingerprint, {});
    const [complete] = await later.until(1);
    left = Object.keys(complete?.attributes ?? {}).filter((key) => key.includes('network'));
    later.cancel();
  }
  next.cancel();
});

test('V-6 V-17: a host that is not ready is reported by health, not by SetConfig, and recovers', async (t) => {
  const parent = dataDirOf(t);
  const blocker = join(parent, 'blocker');
  writeFileSync(blocker, '');
  const dataDir = join(blocker, 'data');
  const env = { NOMAD_DRIVER_QMP_FINGERPRINT_MS: '60' };
  const { plugin, client } = await processPlugin({ dataDir, env });
  t.after(() => plugin[Symbol.asyncDispose]());
  const stream = client.stream(method.fingerprint, {});
  await stream.until(1);
  assert.equal(stream.messages[0]?.health, unhealthy);
  assert.match(stream.messages[0]?.healthDescription ?? '', /blocker/);
  const refused = await failureOf(client.call(method.startTask, { task: task({ id: freshId() }) }));
  assert.equal(refused.code, 9);
  assert.equal(refused.metadata.get('grpc-status-details-bin').length, 1, 'trying again may help');
  rmSync(blocker);
  await stream.until(2);
  installEmulator(dataDir);
  await stream.until(3);
  assert.equal(stream.messages[2]?.health, healthy);
});

test('P-20: attributes have one prefix, whatever the driver is called', async (t) => {
  const dataDir = dataDirOf(t);
  const { plugin, client } = await processPlugin({
    dataDir,
    args: ['--driver-name', 'nomad-driver-virt'],
  });
  t.after(() => plugin[Symbol.asyncDispose]());
  const [first] = await client.stream(method.fingerprint, {}).until(1);
  assert.ok(first?.attributes['driver.nomad-driver-virt']);
  assert.ok(first.attributes['driver.virt.emulator.version']);
  assert.equal(first.attributes['driver.virt'], undefined);
});

test('P-21 V-104: events reach every listener with the names of their task', async () => {
  const { client } = await shared();
  const streams = [client.stream(method.taskEvents, {}), client.stream(method.taskEvents, {})];
  await delay(200);
  const request = task({ id: freshId(), config: { ...smallest, cmds: ['exit 0'] } });
  await client.call(method.startTask, { task: request });
  for (const stream of streams) {
    const [first, second] = await stream.until(2);
    assert.equal(first?.taskId, request.id);
    assert.equal(first?.allocId, request.allocId);
    assert.equal(first?.taskName, 'web');
    assert.equal(first?.message, 'preparing /images/a.raw');
    assert.deepEqual(first?.annotations, { backend: 'process' });
    assert.ok(Math.abs(Number(first?.timestamp?.seconds) * 1000 - Date.now()) < patient(60_000));
    assert.equal(second?.message, 'running');
    assert.equal(stream.ended, false);
  }
  streams[0]?.cancel();
  assert.equal(await streams[0]?.end, 1);
  await client.call(method.destroyTask, { taskId: request.id, force });
});

test('P-30 V-101 V-102 D16: stats come at once, keep the beat, are complete, and end in order', async () => {
  const { client } = await shared();
  const id = freshId();
  // The shell itself is the machine: let it do the work.
  const config = {
    ...smallest,
    cmds: ['i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done', 'sleep 0.6'],
  };
  await client.call(method.startTask, { task: task({ id, config }) });
  const begun = performance.now();
  const stream = client.stream(method.taskStats, {
    taskId: id,
    collectionInterval: { nanos: 200_000_000 },
  });
  await stream.until(5);
  assert.ok((stream.times[0] ?? Infinity) - begun < patient(500));
  const gaps = stream.times.slice(1).map((time, index) => time - (stream.times[index] ?? 0));
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  // Wide, for a busy machine; without the beat 200 ms of sleep would come on top of each sample.
  assert.ok(mean > 80 && mean < patient(300), `${gaps}`);
  for (const { stats } of stream.messages) {
    assert.equal(stats?.id, id);
    assert.ok(stats?.timestamp);
    assert.deepEqual(stats.aggResourceUsage?.memory?.measuredFields, [MemoryUsage_Fields.RSS]);
    assert.equal(Object.keys(stats.resourceUsageByPid).length, 1);
  }
  // The kernel counts the pages of a process that has just begun in batches: there may be none yet.
  assert.ok(stream.messages.some((it) => Number(it.stats?.aggResourceUsage?.memory?.rss) > 0));
  const [first, ...later] = stream.messages.map((it) => it.stats?.aggResourceUsage?.cpu);
  assert.deepEqual(first?.measuredFields, [], 'a rate needs two samples');
  assert.deepEqual(later[0]?.measuredFields, [
    CPUUsage_Fields.USER_MODE,
    CPUUsage_Fields.SYSTEM_MODE,
    CPUUsage_Fields.PERCENT,
    CPUUsage_Fields.TOTAL_TICKS,
  ]);
  for (const cpu of later) {
    assert.ok(cpu && cpu.percent >= 0 && cpu.percent < 250);
    // Two cores of 2000 MHz were told with the configuration.
    assert.ok(Math.abs(cpu.totalTicks - cpu.percent * 20) < 0.01);
  }
  // How much it gets depends on what else the host does.
  assert.ok(later.some((cpu) => (cpu?.percent ?? 0) > 0));
  await client.call(method.stopTask, { taskId: id, timeout: { seconds: 5n } });
  assert.equal(await stream.end, 0);
  // Over, or never known: an end without an error.
  assert.equal(await client.stream(method.taskStats, { taskId: id }).end, 0);
  await client.call(method.destroyTask, { taskId: id });
  const unknown = client.stream(method.taskStats, { taskId: id });
  assert.equal(await unknown.end, 0);
  assert.deepEqual(unknown.messages, []);
});

test('P-43 P-41: a hundred tasks with all their streams; stopping one does not disturb the others', async (t) => {
  const { client, plugin } = await setUp(t);
  const ids = Array.from({ length: 100 }, () => freshId());
  const before = openFiles(plugin);
  const events = client.stream(method.taskEvents, {});
  for (const id of ids) await client.call(method.startTask, { task: task({ id }) });
  const waits = ids.map((taskId) => client.call(method.waitTask, { taskId }));
  const collectionInterval = { seconds: 1n };
  const stats = ids.map((taskId) =>
    client.stream(method.taskStats, { taskId, collectionInterval }),
  );
  for (const stream of stats) await stream.until(2, 20_000);
  await events.until(200, 10_000);
  await Promise.all(
    ids.map((taskId) => client.call(method.stopTask, { taskId, timeout: { seconds: 10n } })),
  );
  for (const answer of await Promise.all(waits)) assert.equal(answer.result?.exitCode, 0);
  for (const stream of stats) assert.equal(await stream.end, 0);
  for (const taskId of ids) await client.call(method.destroyTask, { taskId, force });
  assert.equal(openFiles(plugin), before);
});
