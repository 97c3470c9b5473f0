import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { isQuickToCheck } from '#cloudinit';
import type { Waiting } from '#spec';
import { isMessage } from '../../src/cloudinit/mime.ts';
import type { UserData } from '../../src/cloudinit/user-data-text.ts';
import { textProblems } from '../../src/vm/devices/user-data.ts';
import { patient } from '../support/patience.ts';

const problemsOf = (data: UserData, waiting: Waiting) =>
  textProblems({ key: 'user_data', data }, waiting);
const waiting = (ms = 60_000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });
const repeat = (piece: string, bytes: number): string => piece.repeat(bytes / piece.length);

/** Texts that are small beside what it takes to read them: each use of a list as a key makes a text of the list. */
const heavy: Readonly<Record<string, string>> = {
  'a list as key of many mappings': `#cloud-config\na: &a [${repeat('x,', 131_072)}]\nb:\n${repeat('- ? *a\n  : 1\n', 131_072)}`,
  'a list in a set': `#cloud-config\na: &a [${repeat('x,', 65_536)}]\nb: !!set {${repeat('? *a,', 65_536)}}\n`,
  'a long text many times in a list as key': `#cloud-config\ns: &s ${repeat('x', 4096)}\na: &a [${repeat('*s,', 16_384)}]\nb:\n${repeat('- ? *a\n  : 1\n', 16_384)}`,
};

async function loopDelayOf(t: TestContext, work: () => Promise<unknown>): Promise<number> {
  using delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  await work();
  // What stood in its way is counted when the timer comes next.
  await sleep(20);
  delay.disable();
  t.diagnostic(`the loop was at most ${(delay.max / 1e6).toFixed(0)} ms late`);
  return delay.max / 1e6;
}

for (const [name, text] of Object.entries(heavy)) {
  test(`user data that takes minutes to read is given up after two seconds, beside the loop: ${name}`, async (t) => {
    const started = performance.now();
    const delayMs = await loopDelayOf(t, () =>
      assert.rejects(problemsOf(text, waiting()), {
        code: 'job',
        message:
          /^user_data: the check was aborted, because it takes more than (2000 ms|96 MiB).* aliases/,
        recoverable: true,
      }),
    );
    assert.ok(delayMs < patient(500), `${delayMs} ms`);
    assert.ok(performance.now() - started < patient(10_000));
  });
}

test('the same problems are found in a thread and without one', async () => {
  const wrong = '#cloud-config\n- a\n';
  const [problem = ''] = await problemsOf(wrong, waiting());
  assert.match(problem, /^user_data: line 2: cloud-config must be a mapping/);
  const large = `${wrong}${repeat('- b\n', 16_384)}`;
  assert.ok(!isQuickToCheck(large));
  assert.deepEqual(await problemsOf(large, waiting()), [problem]);
  assert.deepEqual(await problemsOf(gzipSync(wrong), waiting()), [problem]);
  assert.deepEqual(await problemsOf(Buffer.from('#cloud-config\na: &a 1\nb: *a\n'), waiting()), []);
});

test('one MiB of plain user data passes', async () => {
  const text = `#cloud-config\nwrite_files:\n${repeat('- {path: /a, content: "*"}\n', 1_000_000)}`;
  assert.deepEqual(await problemsOf(text, waiting()), []);
});

test('a check ends with its signal, whether it runs or waits for its turn', async () => {
  const text = heavy['a list in a set'] ?? '';
  const first = problemsOf(text, waiting());
  const second = problemsOf(text, { signal: AbortSignal.abort(new Error('enough')) });
  const third = problemsOf('#cloud-config\na: "*"\n', waiting());
  await assert.rejects(first, { code: 'job' });
  await assert.rejects(second, /enough/);
  assert.deepEqual(await third, []);
  await assert.rejects(problemsOf(text, waiting(50)), { name: 'TimeoutError' });
});

test('what is checked without a thread has a bound: a script, or a small text without aliases', () => {
  const cases: readonly (readonly [string | Uint8Array, boolean])[] = [
    ['#cloud-config\na: b\n', true],
    ['#cloud-config\na: "*"\n', false],
    [`#!/bin/sh\ncase $1 in *) ;; esac\n${repeat('x', 1_000_000)}`, true],
    [`#!/bin/sh\nMIME-Version: 1.0\n*`, false],
    [repeat('x', 8192), true],
    [repeat('x', 8194), false],
    [gzipSync('#!/bin/sh'), false],
  ];
  for (const [given, quick] of cases)
    assert.equal(isQuickToCheck(given), quick, String(given).slice(0, 40));
});

test('a script is not checked on the loop where cloud-init takes it for a message, whatever its letters', () => {
  const letter = fc.constantFrom('x', 'é', '€', '🙂', '\u0080', '\n', ' ', '*');
  const mark = fc.constantFrom('MIME-Version: 1.0', 'mime-version:', 'Mime-VERSION:x');
  const script = fc
    .tuple(fc.array(fc.tuple(letter, fc.nat(2100)), { maxLength: 3 }), mark)
    .map(([runs, end]) => `#!${runs.map(([run, times]) => run.repeat(times)).join('')}${end}`);
  let messages = 0;
  fc.assert(
    fc.property(script, (text) => {
      messages += Number(isMessage(text));
      const quick = isQuickToCheck(`${text}${'x'.repeat(8192)}`);
      assert.ok(!quick);
    }),
  );
  assert.ok(messages > 0);
});
