import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { durationMs } from '../../src/plugin/hcl/duration.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import { smallest, task } from './requests.ts';

const context = {
  driverName: 'virt',
  hostArch: 'x86_64',
  limits: { minMemoryMiB: 64, minDiskMiB: 1, maxDiskMiB: 100_000, maxConnections: 8192 },
  pools: { pools: [], default: undefined },
} as const;

const planned = (ready: Readonly<Record<string, unknown>>) =>
  planTask(create(TaskConfigSchema, task({ config: { ...smallest, ready } })), context);

test('V-100: the ready block, with its defaults', () => {
  assert.deepEqual(planned({ agent: true }).spec.ready, {
    agent: true,
    fail: false,
    timeoutMs: 120_000,
  });
  assert.deepEqual(planned({ port: 'http', log: 'login:', timeout: '1m30s', fail: true }), {
    spec: {
      ...planned({ agent: true }).spec,
      ready: { agent: false, fail: true, timeoutMs: 90_000, port: 'http', log: 'login:' },
    },
    problems: [],
  });
  assert.equal(planned({ port: '22' }).spec.ready?.port, 22);
});

for (const [what, ready, problem] of [
  ['nothing to wait for', {}, /^ready: has nothing to wait for: set agent, port or log$/],
  ['no such port', { port: 'ssh' }, /^ready\.port: "ssh" is neither a port of the group nor/],
  ['no such number', { port: '65536' }, /^ready\.port: "65536" is neither/],
  ['no pattern', { log: '(a' }, /^ready\.log: "\(a" has a "\(" without its "\)"$/],
  ['a slow pattern', { log: 'a.{20}b' }, /^ready\.log: "a\.\{20\}b" is too complex/],
  ['no time', { agent: true, timeout: '2 minutes' }, /^ready\.timeout: "2 minutes" is not a time/],
  ['too short a time', { agent: true, timeout: '10ms' }, /^ready\.timeout: "10ms" is not a time/],
  ['too long a time', { agent: true, timeout: '25h' }, /^ready\.timeout: "25h" is not a time/],
] as const) {
  test(`a ready block with ${what} is refused`, () => {
    const { problems } = planned(ready);
    assert.equal(problems.length, 1);
    assert.match(`${problems[0]?.path}: ${problems[0]?.text}`, problem);
  });
}

test('times as Nomad writes them', () => {
  const times = { '90s': 90_000, '1m30s': 90_000, '1.5h': 5_400_000, '250ms': 250, '0s': 0 };
  for (const [text, ms] of Object.entries(times)) assert.equal(durationMs(text), ms, text);
  for (const text of ['', '5', 's', '1d', '-1s', '1m 30s', '1e3s']) {
    assert.equal(durationMs(text), undefined, text);
  }
});
