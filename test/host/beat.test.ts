import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Beat, nextBeat } from '../../src/host/beat.ts';

test('P-30: streams of one interval have the same beats, whenever they began', () => {
  const time = fc.integer({ min: 0, max: 10_000_000 });
  fc.assert(
    fc.property(time, fc.integer({ min: 100, max: 60_000 }), (beganMs, intervalMs) => {
      const first = nextBeat(beganMs, beganMs + 1, intervalMs);
      assert.equal(first % intervalMs, 0);
      assert.ok(first - beganMs >= intervalMs / 2 && first - beganMs < 1.5 * intervalMs);
      // Timers fire a little late, and a millisecond early.
      for (const firedMs of [first - 1, first, first + intervalMs / 3]) {
        assert.equal(nextBeat(first, firedMs, intervalMs), first + intervalMs);
      }
      const late = nextBeat(first, first + 2.5 * intervalMs, intervalMs);
      assert.equal(late, first + 3 * intervalMs, 'what was missed is left out');
    }),
  );
});

test('P-30: a hundred streams wait with one timer, which a cancelled one leaves and the last one clears', async (t) => {
  const started = t.mock.method(globalThis, 'setTimeout');
  const cleared = t.mock.method(globalThis, 'clearTimeout');
  const end = new AbortController();
  const beats = Array.from({ length: 100 }, () => new Beat(200, end));
  const waits = beats.map((beat) => beat.next());
  // Two, where the clock passes the middle of an interval meanwhile.
  assert.ok(started.mock.callCount() <= 2, `${started.mock.callCount()} timers`);
  let turn = 0;
  const turns = new Set<number>();
  const alive = setInterval(() => {}, 1000);
  t.after(() => clearInterval(alive));
  const count = (): void => {
    turn += 1;
    if (ended < waits.length) setImmediate(count);
  };
  let ended = 0;
  setImmediate(count);
  const came = waits.map(async (wait) => {
    const isBeat = await wait;
    turns.add(turn);
    ended += 1;
    return isBeat;
  });
  assert.deepEqual(new Set(await Promise.all(came)), new Set([true]));
  assert.ok(turns.size >= 3, `all of them in ${turns.size} turns of the event loop`);
  const later = beats.map((beat) => beat.next());
  const timers = started.mock.callCount();
  const before = cleared.mock.callCount();
  end.abort();
  assert.deepEqual(new Set(await Promise.all(later)), new Set([false]));
  assert.ok(cleared.mock.callCount() > before);
  assert.equal(await beats[0]?.next(), false);
  assert.equal(started.mock.callCount(), timers);
});
