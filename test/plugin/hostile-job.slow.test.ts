import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import type { Field, Fields } from '../../src/plugin/hcl/schema.ts';
import { taskSchema } from '../../src/plugin/job/task.ts';
import { answerTask, maxMs } from '../support/answer-task.ts';
import { smallest, type TaskInit, task } from './requests.ts';

/** The first is large enough to show what takes quadratic time, and small enough for a test to fail within seconds. */
const sizes = [64 * 1024, 1024 * 1024];

/** Texts of a size that patterns and quoting may take long for. */
const texts: Readonly<Record<string, (bytes: number) => string>> = {
  blanks: (bytes) => `x${' '.repeat(bytes)}x`,
  'line breaks': (bytes) => `x${'\n'.repeat(bytes)}x`,
  'blanks and line breaks': (bytes) => `x${' \n'.repeat(bytes / 2)}x`,
  quotes: (bytes) => '"'.repeat(bytes),
  digits: (bytes) => `${'9'.repeat(bytes)}x`,
  slashes: (bytes) => `/dev/${'/'.repeat(bytes)}x\n/`,
  'short parts of a path': (bytes) => `A${'/A'.repeat(bytes / 2)}!`,
};

/** Tasks with one value, at each place where a job can write one. */
function* tasksWith(value: unknown): Generator<readonly [path: string, init: TaskInit]> {
  for (const [path, config] of blocksWith(taskSchema, value)) {
    yield [path, task({ msgpackDriverConfig: encode({ ...smallest, ...config }) })];
  }
  if (typeof value !== 'string') return;
  const disk = [{ volume: '/data' }];
  for (const key of ['taskPath', 'propagationMode', 'requestName']) {
    const mounts = [{ hostPath: '/host', [key]: value }];
    yield [`volume_mount.${key}`, task({ config: { disk }, mounts })];
  }
  yield ['user', task({ user: value })];
  yield ['task', task({ name: value })];
}

function* blocksWith(fields: Fields, value: unknown): Generator<readonly [string, object]> {
  for (const [name, field] of Object.entries(fields)) {
    for (const [path, inner] of valuesWith(field, value))
      yield [`${name}${path}`, { [name]: inner }];
  }
}

function* valuesWith(field: Field, value: unknown): Generator<readonly [string, unknown]> {
  if (field.kind === 'instead') return;
  yield ['', value];
  if (field.kind === 'attr') {
    if (field.type === 'list(string)') yield ['[0]', [value]];
    return;
  }
  for (const [path, block] of blocksWith(field.fields, value))
    yield [`.${path}`, field.kind === 'block' ? block : [block]];
}

for (const [kind, text] of Object.entries(texts)) {
  test(`one MiB of ${kind} at any place of a job is answered at once, and quoted in part`, () => {
    for (const bytes of sizes) {
      for (const [path, init] of tasksWith(text(bytes))) {
        const { ms, message } = answerTask(init);
        assert.ok(ms <= maxMs, `${path}: ${ms.toFixed(0)} ms for ${bytes} bytes`);
        assert.ok(message.length < 2500, `${path}: ${message.length} characters`);
      }
    }
  });
}

const many = (count: number, item: (index: number) => unknown) =>
  Array.from({ length: count }, (_, index) => item(index));

/** Lists of a job that are longer than anything of use. */
const lists: Readonly<Record<string, (count: number) => TaskInit>> = {
  'ports without a label': (count) =>
    task({
      config: {
        ...smallest,
        network_interface: [{ bridge: { name: 'br0', ports: many(count, (at) => `port${at}`) } }],
      },
      resources: {
        ports: Array.from({ length: count }, (_, at) => ({ label: `other${at}`, value: 80 })),
      },
    }),
  'disks with names': (count) =>
    task({ config: { disk: many(count, (at) => ({ devname: `d${at}`, serial: `s${at}` })) } }),
  'disks without names': (count) => task({ config: { disk: many(count, () => ({ size: '1G' })) } }),
  interfaces: (count) =>
    task({
      config: { ...smallest, network_interface: many(count, () => ({ bridge: { name: 'br0' } })) },
    }),
  directories: (count) =>
    task({
      config: smallest,
      mounts: Array.from({ length: count }, (_, at) => ({ taskPath: `/${at}`, hostPath: '/h' })),
    }),
  'disks in volumes': (count) =>
    task({
      config: { disk: many(count, (at) => ({ volume: `/no/${at}` })) },
      mounts: Array.from({ length: count }, (_, at) => ({
        taskPath: `/data/${at}`,
        hostPath: '/h',
      })),
    }),
};

for (const [kind, list] of Object.entries(lists)) {
  test(`thousands of ${kind} are answered at once`, () => {
    const { ms, message } = answerTask(list(5000));
    assert.ok(ms <= maxMs, `${ms.toFixed(0)} ms`);
    assert.match(message, /^qmp: invalid configuration/);
  });
}

test('more interfaces and directories than a machine has places for are refused before any is made', () => {
  for (const kind of ['interfaces', 'directories']) {
    const init = (count: number): TaskInit => lists[kind]?.(count) ?? assert.fail();
    assert.doesNotMatch(answerTask(init(31)).message, /possible/);
    assert.match(
      answerTask(init(32)).message,
      new RegExp(`32 ${kind} are more than the 31 possible`),
    );
  }
});
