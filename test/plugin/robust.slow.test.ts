import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { create, type DescMethod, toBinary } from '@bufbuild/protobuf';
import { encode } from '@msgpack/msgpack';
import fc from 'fast-check';
import { toStatus } from '../../src/plugin/error/status.ts';
import { BasePlugin } from '../../src/plugin/gen/base_pb.ts';
import { Driver, TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { formatLine } from '../../src/plugin/serve/log.ts';
import { decodeTaskState, encodeTaskState } from '../../src/plugin/tasks/task-handle.ts';
import { cookie, failureOf, PluginClient, PluginProcess } from '../support/plugin-client.ts';
import { dataDirOf, freshId, processPlugin, shared, task } from './requests.ts';

async function setUp(t: TestContext, env: Record<string, string> = {}) {
  const dataDir = dataDirOf(t);
  const { plugin, client } = await processPlugin({ dataDir, env });
  t.after(() => plugin[Symbol.asyncDispose]());
  return { dataDir, plugin, client };
}

const { method } = Driver;
const INVALID_ARGUMENT = 3;

test('P-12 V-9: requests whose parts are missing are INVALID_ARGUMENT', async () => {
  const { client } = await shared();
  const calls: Record<string, Promise<unknown>> = {
    'StartTask without a task': client.call(method.startTask, {}),
    'StartTask of nothing': client.call(method.startTask, { task: {} }),
    'StartTask with an id alone': client.call(method.startTask, { task: { id: freshId() } }),
    'RecoverTask without a handle': client.call(method.recoverTask, {}),
    'RecoverTask without a task': client.call(method.recoverTask, { handle: { version: 1 } }),
    'RecoverTask without a state': client.call(method.recoverTask, {
      handle: { version: 1, config: { id: freshId() } },
    }),
    'RecoverTask of version 0': client.call(method.recoverTask, {
      handle: { version: 0, config: { id: freshId() } },
    }),
    'DestroyTask without an id': client.call(method.destroyTask, { force: true }),
    'SetConfig with garbage': client.call(BasePlugin.method.setConfig, {
      msgpackConfig: Buffer.from('c1', 'hex'),
    }),
    'SetConfig with another API': client.call(BasePlugin.method.setConfig, {
      pluginApiVersion: 'v9',
    }),
  };
  for (const [name, call] of Object.entries(calls)) {
    assert.equal((await failureOf(call)).code, INVALID_ARGUMENT, name);
  }
  for (const bytes of ['ff', '0a05', '0a0561', '08']) {
    const failure = await failureOf(client.raw(method.startTask, Buffer.from(bytes, 'hex')));
    assert.equal(failure.code, INVALID_ARGUMENT);
  }
});

const unary = [...BasePlugin.methods, ...Driver.methods].filter(
  (it): it is DescMethod & { readonly methodKind: 'unary' } => it.methodKind === 'unary',
);

/** Bytes of a valid StartTask with some of them changed, cut or doubled. */
const mutated = fc
  .tuple(fc.infiniteStream(fc.nat()), fc.integer({ min: 1, max: 8 }))
  .map(([numbers, count]) => {
    const next = (below: number): number => (numbers.next().value ?? 0) % below;
    const bytes = Buffer.from(toBinary(TaskConfigSchema, create(TaskConfigSchema, task())));
    for (let i = 0; i < count; i += 1) bytes[next(bytes.length)] = next(256);
    const length = Buffer.alloc(4);
    let written = 0;
    for (let rest = bytes.length; rest > 0; rest >>>= 7) {
      length[written] = rest > 127 ? (rest & 127) | 128 : rest;
      written += 1;
    }
    return Buffer.concat([Buffer.of(0x0a), length.subarray(0, written), bytes]);
  });

test('P-12: whatever bytes a call gets, it answers, never with code 1 or 14, and the process lives', async () => {
  const { client, plugin } = await shared();
  const answered = async (one: DescMethod, bytes: Buffer): Promise<void> => {
    try {
      await client.raw(one, bytes);
    } catch (error) {
      assert.ok(error instanceof Error && 'code' in error);
      assert.ok(error.code !== 1 && error.code !== 14, `${one.name}: ${error.message}`);
    }
  };
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...unary.filter((it) => it.name !== 'StartTask')),
      fc.uint8Array({ maxLength: 60 }),
      (one, bytes) => answered(one, Buffer.from(bytes)),
    ),
    { numRuns: 300 },
  );
  await fc.assert(
    fc.asyncProperty(mutated, (bytes) => answered(method.startTask, bytes)),
    { numRuns: 200 },
  );
  const info = await client.call(BasePlugin.method.pluginInfo, {});
  assert.equal(info.name, 'virt');
  assert.equal(plugin.stdout.length, 1);
});

test('P-12 P-24: a status is never 1 or 14; only a recoverable error carries a detail', () => {
  const codes = (error: unknown): number => toStatus(error).code;
  const aborted = AbortSignal.abort().reason;
  for (const error of [new Error('x'), 'text', undefined, null, aborted, new TypeError()]) {
    assert.ok(![1, 14].includes(codes(error)));
    assert.equal(toStatus(error).details, undefined);
  }
  const endless = toStatus(new Error('🙂'.repeat(100_000))).message;
  assert.ok(endless.length < 5000);
  encodeURI(endless);
  const chain = new Error('outer', { cause: new Error('inner') });
  assert.equal(toStatus(chain).message, 'outer: inner');
});

test('P-16 P-19: SetConfig, Init and Shutdown can come twice, in any order, or never', async (t) => {
  const { client, dataDir } = await setUp(t);
  for (let i = 0; i < 2; i += 1) {
    await client.call(method.init, {});
    await client.call(method.shutdown, {});
  }
  const { plugin: fresh } = await processPlugin({ dataDir });
  t.after(() => fresh[Symbol.asyncDispose]());
  const second = fresh.client();
  const id = freshId();
  await second.call(method.startTask, { task: task({ id }) });
  await second.call(method.destroyTask, { taskId: id, force: true });
});

test('P-7 P-16: a launch that only validates makes nothing on the host', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'plugin-test-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  await using plugin = await PluginProcess.serve();
  const client = plugin.client();
  const msgpackConfig = encode({ data_dir: `${dir}/data`, run_dir: `${dir}/run` });
  for (let i = 0; i < 2; i += 1) {
    await client.call(BasePlugin.method.setConfig, { msgpackConfig, pluginApiVersion: 'v0.1.0' });
  }
  const { spec } = await client.call(BasePlugin.method.configSchema, {});
  assert.equal(spec?.block.case, 'object');
  assert.equal(existsSync(`${dir}/data`), false);
  assert.equal(existsSync(`${dir}/run`), false);
});

test('P-22 V-138 D32: capabilities are deliberate and do not change', async () => {
  const { client } = await shared();
  const bytes = await client.raw(method.capabilities, Buffer.alloc(0));
  // send_signals, exec, file system isolation IMAGE, network modes [HOST, GROUP, NONE]; mounts of any kind and logs collected are zeros.
  assert.equal(bytes.toString('hex'), '0a0b0801100118022203000103');
  assert.deepEqual(await client.raw(method.capabilities, Buffer.alloc(0)), bytes);
});

test('P-15: TaskConfigSchema has a spec', async () => {
  const { client } = await shared();
  const { spec } = await client.call(method.taskConfigSchema, {});
  assert.equal(spec?.block.case, 'object');
});

test('P-13: log lines are what hclog expects, whatever is logged', () => {
  const anything = fc.dictionary(
    fc.oneof(fc.string(), fc.constantFrom('@level', '@message', '@timestamp', 'timestamp', '')),
    fc.anything({ withBigInt: true }),
  );
  fc.assert(
    fc.property(fc.string(), anything, (message, fields) => {
      const line = formatLine({ level: 'warn', message, module: 'virt', fields, at: new Date(0) });
      const json = JSON.parse(line);
      assert.equal(line.indexOf('\n'), line.length - 1);
      assert.equal(json['@level'], 'warn');
      assert.equal(json['@message'], message);
      assert.equal(json['@timestamp'], '1970-01-01T00:00:00.000000Z');
      assert.equal(json.timestamp, undefined);
      for (const key of Object.keys(json)) {
        if (key.startsWith('@')) assert.equal(typeof json[key], 'string');
      }
    }),
  );
});

test('P-13: lines stay below 64 KiB', () => {
  const big = 'ü'.repeat(100_000);
  const fields = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`f${i}`, big]));
  const line = formatLine({ level: 'info', message: big, module: 'm', fields, at: new Date() });
  assert.ok(Buffer.byteLength(line) < 65_536);
});

test('P-13: lines of a process; --log-file has them when stderr is no longer read', async (t) => {
  const dataDir = dataDirOf(t);
  const logFile = join(dataDir, 'plugin.log');
  const { plugin, client } = await processPlugin({ dataDir, args: ['--log-file', logFile] });
  t.after(() => plugin[Symbol.asyncDispose]());
  plugin.closePipes();
  const id = freshId();
  await client.call(method.startTask, { task: task({ id }) });
  await client.call(method.destroyTask, { taskId: id, force: true });
  const lines = readFileSync(logFile, 'utf8').trimEnd().split('\n');
  const messages = lines.map((line) => JSON.parse(line)['@message']);
  assert.ok(messages.includes('starting task'));
  assert.ok(messages.includes('destroying task'));
});

test('P-12 P-13: a bug is one error line with its stack and a quick end, the socket removed', async (t) => {
  for (const how of ['throw', 'reject']) {
    const plugin = new PluginProcess({
      entry: 'test/support/crashing-plugin.ts',
      env: { ...cookie, CRASH: how },
    });
    t.after(() => plugin[Symbol.asyncDispose]());
    const { code } = await plugin.exit;
    assert.ok(code !== 0 && code !== null);
    assert.equal(plugin.stdout.length, 1);
    const errors = plugin.logs().filter((it) => it['@level'] === 'error');
    assert.equal(errors.length, 1);
    assert.match(String(errors[0]?.error), /a bug of the test[\s\S]*crashing-plugin/);
    assert.equal(existsSync(dirname(plugin.socketPath)), false);
  }
});

test('P-42: an orphan without connections ends itself, one that is connected does not', async (t) => {
  const dataDir = dataDirOf(t);
  const tmp = mkdtempSync(join(tmpdir(), 'plugin-test-'));
  t.after(() => rmSync(tmp, { recursive: true, force: true }));
  const entry = join(import.meta.dirname, '../support/process-plugin.ts');
  // A parent that starts the plugin and dies, as an agent does.
  const script = `
    const { spawn } = require('node:child_process');
    const child = spawn(process.execPath, [${JSON.stringify(entry)}], { stdio: ['ignore', 'inherit', 'ignore'], detached: true });
    child.unref();
    setTimeout(() => process.exit(0), 600);`;
  const parent = spawn(process.execPath, ['-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...cookie, TMPDIR: tmp, NOMAD_DRIVER_QMP_ORPHAN_MS: '700' },
  });
  const line = await new Promise<string>((done) => {
    parent.stdout.once('data', (bytes: Buffer) => done(bytes.toString()));
  });
  const socket = line.split('|')[3] ?? '';
  const client = new PluginClient(socket);
  await client.call(BasePlugin.method.pluginInfo, {});
  await delay(2500);
  await client.call(BasePlugin.method.pluginInfo, {});
  assert.ok(existsSync(socket), 'still there while connected');
  client.close();
  for (let i = 0; i < 50 && existsSync(dirname(socket)); i += 1) await delay(100);
  assert.equal(existsSync(dirname(socket)), false);
  assert.ok(dataDir);
});

test('V-10 P-41: the state in a handle survives; what is not one is refused with words', () => {
  const record = { name: 'web-1', dir: '/d', pid: 7, startTicks: '9', bootId: 'b' };
  const state = { record: { ...record, later: { added: true } }, startedAtMs: 5 };
  assert.deepEqual(decodeTaskState(1, encodeTaskState(state)), state.record);
  const bytes = (json: unknown) => Buffer.from(JSON.stringify(json));
  assert.deepEqual(decodeTaskState(1, bytes({ record })), record, 'only what recovery needs');
  const bad: [number, Uint8Array, RegExp][] = [
    [0, encodeTaskState(state), /version 0/],
    [2, encodeTaskState(state), /version 2; this plugin reads 1/],
    [1, new Uint8Array(), /not JSON/],
    [1, Buffer.from('ff', 'hex'), /not JSON/],
    [1, bytes(null), /no state/],
    [1, bytes([]), /no state/],
    [1, bytes({ startedAtMs: 1 }), /no record/],
    [1, bytes({ record: { ...record, pid: 1.5 }, startedAtMs: 1 }), /no pid/],
    [1, bytes({ record: { ...record, name: '' }, startedAtMs: 1 }), /no name/],
  ];
  for (const [version, input, words] of bad) {
    assert.throws(() => decodeTaskState(version, input), words);
  }
});
