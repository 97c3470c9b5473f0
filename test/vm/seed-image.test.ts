import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeSeedImage } from '#cloudinit';
import { seedImage } from '../../src/vm/devices/seed-image.ts';
import { maxGuestBytes, maxItems, sizeProblems } from '../../src/vm/devices/seed-size.ts';
import { patient } from '../support/patience.ts';

const waiting = { signal: AbortSignal.timeout(60_000) };
const guest = {
  hostname: 'h',
  userData: undefined,
  password: undefined,
  authorizedKey: undefined,
  commands: [],
  timezone: undefined,
  env: {},
} as const;
const variables = (count: number): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`K${index}`, 'v']));

test('what a job puts into a seed has a limit, and the error names the keys that fill it', () => {
  assert.deepEqual(sizeProblems({ ...guest, env: { A: 'x'.repeat(maxGuestBytes - 1000) } }), []);
  const [problem = ''] = sizeProblems({
    ...guest,
    env: { A: 'x'.repeat(maxGuestBytes) },
    commands: ['y'.repeat(maxGuestBytes / 2)],
    password: 'short',
  });
  assert.match(
    problem,
    /^env \(10\d{5}\) and cmds \(52\d{4}\): 157\d{4} bytes .* the maximum is 1048576; /,
  );
  assert.doesNotMatch(problem, /password|ssh_key/);
});

test('a job puts no more variables and commands into a seed than can be looked at in passing', () => {
  assert.deepEqual(sizeProblems({ ...guest, env: variables(maxItems) }), []);
  const commands = Array.from({ length: maxItems + 1 }, () => ':');
  const problems = sizeProblems({ ...guest, env: variables(90_000), commands });
  assert.match(
    problems.join('\n'),
    /^env: 90000 entries, the maximum is 10000; .*\ncmds: 10001 entries/,
  );
});

test('a seed is the same made aside, and the loop goes on meanwhile', async (t) => {
  const env = variables(90_000);
  const request = { instanceId: 'i', hostname: 'h', commands: [], env, mounts: [] };
  const expected = makeSeedImage(request);
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3 && best > 50; round += 1) {
    using delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    const before = process.threadCpuUsage();
    const { iso, notes } = await seedImage(request, maxGuestBytes, waiting);
    // What stood in its way is counted when the timer comes next.
    await sleep(20);
    delay.disable();
    const { user, system } = process.threadCpuUsage(before);
    // It stood still for no longer than it worked: the rest is what the machine did instead.
    best = Math.min(best, delay.max / 1e6, (user + system) / 1e3);
    assert.ok(Buffer.from(expected.iso).equals(iso));
    assert.deepEqual(notes, expected.notes);
  }
  t.diagnostic(`the loop stood still for ${best.toFixed(0)} ms`);
  assert.ok(best < patient(100), `${best} ms`);
});

test('of many variables that no shell takes ten are named', () => {
  const env = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`${index}`, 'v']));
  const { notes } = makeSeedImage({
    instanceId: 'i',
    hostname: 'h',
    commands: [],
    env,
    mounts: [],
  });
  assert.equal(notes.length, 1);
  assert.match(notes[0] ?? '', /: (?:"\d+", ){9}"\d+" and 490 more$/);
});
