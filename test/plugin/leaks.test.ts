import assert from 'node:assert/strict';
import { createHook } from 'node:async_hooks';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { EventHub } from '../../src/plugin/tasks/events.ts';
import { Tasks } from '../../src/plugin/tasks/tasks.ts';
import { ProcessVirtualizer } from '../support/process-virtualizer.ts';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

const names = { taskId: 'alloc/web/0123abcd', taskName: 'web', allocId: 'alloc' };
const record = { name: 'none', dir: '/nowhere', pid: 1, startTicks: '1', bootId: 'never' };

test('a stream that waits for each of many events keeps nothing of them', async () => {
  const hub = new EventHub();
  const end = new AbortController();
  const stream = hub.stream({ signal: end.signal });
  const passed = async (count: number): Promise<number> => {
    for (let index = 0; index < count; index += 1) {
      const next = stream.next();
      // The stream waits before the event comes.
      await Promise.resolve();
      hub.publish(names, { atMs: 0, message: 'x', annotations: {} });
      await next;
    }
    collectGarbage();
    return process.memoryUsage().heapUsed;
  };
  const before = await passed(1000);
  const grown = (await passed(20_000)) - before;
  assert.ok(grown < 1024 * 1024, `${grown} bytes for 20000 events`);
  const last = stream.next();
  end.abort();
  assert.equal((await last).done, true);
  assert.deepEqual(getEventListeners(end.signal, 'abort'), []);
});

test('a recovery leaves no timer behind', async () => {
  const timers = new Set<number>();
  const hook = createHook({
    init: (id, type) => void (type === 'Timeout' && timers.add(id)),
    destroy: (id) => void timers.delete(id),
  });
  const log = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };
  const tasks = new Tasks({ backend: async () => new ProcessVirtualizer('/nowhere'), log });
  const request = {
    env: {},
    readRecord: () => record,
    stdoutPath: '/dev/null',
    stderrPath: '/dev/null',
  };
  hook.enable();
  await assert.rejects(
    tasks.recover(names, request, { signal: new AbortController().signal }),
    /task not found/,
  );
  await new Promise((resolve) => setImmediate(resolve));
  hook.disable();
  assert.equal(timers.size, 0);
});
