import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setPriority } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findByMark, findByUser } from '#host';
import { hangingArguments } from '../support/hanging-arguments.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';

const waiting = (ms = 10_000): { signal: AbortSignal } => ({
  signal: AbortSignal.timeout(patient(ms)),
});
const nobody = 65_534;

test('a process of another user whose arguments cannot be read holds up no search', async (t) => {
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root')) return;
  const mark = randomUUID();
  const plain = await hangingArguments(t, { uid: nobody, mark, hidden: false });
  const hidden = await hangingArguments(t, { uid: nobody, mark, hidden: true });
  const began = performance.now();
  const found = await findByMark(mark, [], waiting());
  assert.ok(!found.some(({ pid }) => pid === plain || pid === hidden));
  assert.ok(performance.now() - began < patient(400), 'their memory was not looked at');
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
  assert.ok(
    delay.max / 1e6 < patient(400),
    'a read that hangs for 500 ms was not waited for on the loop',
  );
});

test('a process is found by its user whatever its priority, until it is gone', async (t) => {
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root')) return;
  const uid = 1_999_999_000 + (process.pid % 1000);
  const child = spawn('sleep', ['60'], { uid, gid: uid, stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  await once(child, 'spawn');
  // C's getpriority answers -1 for a process of this priority, as it does for none at all.
  for (const priority of [-20, -1, 0, 19]) {
    setPriority(child.pid ?? 0, priority);
    const found = await findByUser(uid, waiting());
    assert.deepEqual(
      found.map(({ pid }) => pid),
      [child.pid],
      `priority ${priority}`,
    );
  }
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.deepEqual(await findByUser(uid, waiting()), []);
});
