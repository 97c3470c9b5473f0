import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stopTimes } from '../../src/vm/live/stop.ts';

// Grace period → what the guest gets of it, and each of QEMU's two rungs, in milliseconds.
const table: readonly (readonly [graceMs: number, politeMs: number, stepMs: number])[] = [
  [0, 0, 0],
  [400, 280, 60],
  [1000, 700, 150],
  [3000, 2700, 150],
  [5000, 4700, 150],
  [30_000, 29_700, 150],
  [3_600_000, 3_599_700, 150],
];

for (const [graceMs, politeMs, stepMs] of table) {
  test(`V-87: of ${graceMs} ms the guest has ${politeMs} ms, and the whole stays inside`, () => {
    const times = stopTimes(graceMs);
    assert.deepEqual(times, { politeMs, stepMs });
    assert.ok(times.politeMs + 2 * times.stepMs <= graceMs);
  });
}
