import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { endOf, parseJournal, QmpClient } from '#qmp';
import { patient } from '../support/patience.ts';
import { QmpServer } from '../support/qmp-server.ts';

const MiB = 2 ** 20;
const journalBytes = 256 * 1024;
const fill = (piece: string, bytes: number): string =>
  piece.repeat(Math.floor(bytes / piece.length));
const soon = () => ({ signal: AbortSignal.timeout(patient(20_000)) });

/** What an emulator that a guest has taken over answers: %ID% is the call's. */
const answers: Readonly<Record<string, string>> = {
  'a million wrong objects': `{"return": [${fill('{},', 3 * MiB)}{}], "id": %ID%}`,
  'as many wrong objects as one line holds': `{"return": [${fill('{},', MiB - 100)}{}], "id": %ID%}`,
  'wrong objects, few enough to be looked at': `{"return": [${fill('{},', 48_000)}{}], "id": %ID%}`,
  'half a million zeros': `{"return": [${fill('0,', MiB - 100)}0], "id": %ID%}`,
  'a number of a million digits': `{"return": [${fill('9', MiB - 100)}], "id": %ID%}`,
  'sixteen digits, and zeros': `{"return": [1234567890123456789,${fill('0,', MiB - 100)}0], "id": %ID%}`,
  'a line without end': fill('x', 3 * MiB),
  'empty lines': `${fill('\n', 2 * MiB)}{"return": 1, "id": %ID%}`,
  'a refusal of one MiB': `{"error": {"class": "GenericError", "desc": "${fill('x', MiB - 100)}"}, "id": %ID%}`,
  'brackets without end': fill('[', MiB - 1),
  'a text instead of a list': `{"return": "${fill('x', MiB - 100)}", "id": %ID%}`,
};

/** The longest that the loop stood still, in ms; the best of eight, for the machine has other work. */
async function standstill(t: TestContext, work: () => Promise<void>): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 8 && best > 50; round += 1) {
    using delay = monitorEventLoopDelay({ resolution: 2 });
    delay.enable();
    const before = process.threadCpuUsage();
    await work();
    const { user, system } = process.threadCpuUsage(before);
    // What stood in its way is counted when the timer comes next.
    await sleep(20);
    delay.disable();
    // It stood still for no longer than it worked: the rest is what the machine did instead.
    best = Math.min(best, delay.max / 1e6, (user + system) / 1e3);
  }
  t.diagnostic(`the loop stood still for ${best.toFixed(0)} ms`);
  return best;
}

for (const [name, answer] of Object.entries(answers)) {
  test(`an answer that harms: ${name}: the session refuses it, the loop goes on`, async (t) => {
    const before = process.memoryUsage.rss();
    const delayMs = await standstill(t, async () => {
      await using server = await QmpServer.start({
        script: ({ id }, peer) => peer.raw(`${answer.replace('%ID%', String(id))}\r\n`),
      });
      await using client = await QmpClient.connect(server.path, soon());
      const failure = client.execute('query-named-block-nodes', { flat: true }, soon());
      await assert.rejects(failure, (error) => {
        assert.ok(error instanceof Error && 'code' in error);
        assert.match(String(error.code), /^(protocol|closed|command)$/);
        assert.ok(error.message.length < 1200, 'it fits a log');
        return true;
      });
    });
    assert.ok(delayMs < patient(100), `${delayMs} ms`);
    assert.ok(process.memoryUsage.rss() - before < 128 * MiB);
  });
}

const journals: Readonly<Record<string, string>> = {
  'line ends': '\n',
  'halves of events': '{"event":\n',
  events: '{"event":""}\n',
  brackets: '[\n',
  'NUL bytes': '\0',
  'NUL bytes in lines': '\0\n',
};
for (const [name, piece] of Object.entries(journals)) {
  test(`a journal that harms: ${name}: the end is found, in no time`, async (t) => {
    const end = '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}\n';
    const text = fill(piece, journalBytes) + end;
    const times = [1, 2, 3].map(() => {
      const begun = performance.now();
      assert.equal(endOf(parseJournal(text))?.reason, 'guest-shutdown');
      return performance.now() - begun;
    });
    t.diagnostic(`${Math.min(...times).toFixed(0)} ms`);
    assert.ok(Math.min(...times) < patient(100));
  });
}
