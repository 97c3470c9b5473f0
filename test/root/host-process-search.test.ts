import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findByMark, findByUser } from '#host';
import { hangingArguments } from '../support/hanging-arguments.ts';
import { requireOrSkip } from '../support/require.ts';

const waiting = (ms = 10_000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });
const nobody = 65_534;

test('a process of another user whose arguments cannot be read holds up no search', async (t) => {
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root')) return;
  const mark = randomUUID();
  const plain = await hangingArguments(t, { uid: nobody, mark, hidden: false });
  const hidden = await hangingArguments(t, { uid: nobody, mark, hidden: true });
  const began = performance.now();
  const found = await findByMark(mark, [], waiting());
  assert.ok(!found.some(({ pid }) => pid === plain || pid === hidden));
  assert.ok(performance.now() - began < 400, 'their memory was not looked at');
  const theirs = (await findByUser(nobody, waiting())).map(({ pid }) => pid);
  assert.ok(theirs.includes(plain));
  assert.ok(theirs.includes(hidden), 'also one that made root the owner of its directory');
});

test('a process of a user whose processes are searched holds a search up for a moment, the loop never', async (t) => {
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root')) return;
  const mark = randomUUID();
  const hanging = await hangingArguments(t, { uid: nobody, mark, hidden: false });
  using delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  for (let round = 0; round < 3; round += 1) {
    const found = await findByMark(mark, [nobody], waiting());
    assert.ok(!found.some(({ pid }) => pid === hanging));
  }
  await sleep(20); // what stood in its way is counted when the timer comes next
  delay.disable();
  t.diagnostic(`the loop was at most ${(delay.max / 1e6).toFixed(0)} ms late`);
  assert.ok(delay.max / 1e6 < 400, 'a read that hangs for 500 ms was not waited for on the loop');
});
