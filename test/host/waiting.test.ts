import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { test } from 'node:test';
import { setTimeout as delay, setImmediate as immediate } from 'node:timers/promises';
import { abortable, endsWithin, slept, within } from '#host';

test('P-12: what fails after its caller was called off ends no process', async () => {
  const gone = AbortSignal.abort(new Error('gone'));
  await assert.rejects(abortable(Promise.reject(new Error('late')), { signal: gone }), /gone/);
  const soon = new AbortController();
  const { promise, reject } = Promise.withResolvers<never>();
  const waiting = abortable(promise, soon);
  soon.abort(new Error('gone'));
  await assert.rejects(waiting, /gone/);
  reject(new Error('late'));
  // The test runner fails a test in which a rejection is left alone.
  await delay(20);
});

test('abortable: the outcome where it comes first', async () => {
  const { signal } = new AbortController();
  assert.equal(await abortable(Promise.resolve(7), { signal }), 7);
  await assert.rejects(abortable(Promise.reject(new Error('own')), { signal }), /own/);
});

test('P-30: a sleep longer than a timer can be is long, not over at once', async () => {
  for (const ms of [2 ** 31, 1e15]) {
    const soon = new AbortController();
    const asleep = slept(ms, soon);
    await delay(50);
    soon.abort();
    assert.equal(await asleep, false);
  }
});

test('P-43: a deadline that is disposed of keeps nothing, one that is not aborts in time', async () => {
  const timers = (): number =>
    process.getActiveResourcesInfo().filter((it) => it === 'Timeout').length;
  const { signal } = new AbortController();
  const before = timers();
  {
    using limited = within(3_600_000, { signal });
    assert.equal(limited.signal.aborted, false);
  }
  assert.equal(timers(), before);
  const { signal: soon } = within(5, { signal });
  await assert.rejects(abortable(new Promise(() => {}), { signal: soon }), {
    name: 'TimeoutError',
  });
});

test('an answer that is there at the deadline counts, however late this process looks', async () => {
  const hold = (): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  // Timers come next then.
  await immediate();
  {
    using limited = within(20);
    const answer = abortable(stat('/'), limited);
    hold();
    assert.ok((await answer).isDirectory());
  }
  await immediate();
  const answer = endsWithin(stat('/'), 20);
  hold();
  assert.ok(await answer);
});
