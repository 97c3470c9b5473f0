import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgentLine } from '../../src/vm/guest/agent/agent-line.ts';
import { patient } from '../support/patience.ts';
import { answerSync, listen } from '../support/scripted-agent.ts';

const within = (ms: number) => ({ signal: AbortSignal.timeout(ms) });
const nothing = {};
const never = new Promise<never>(() => {});

test('a stop goes before everything that waits for the agent', async (t) => {
  const path = await listen(t, (line, socket) => {
    if (!answerSync(line, socket)) socket.write('{"return": {}}\n');
  });
  await using line = new AgentLine(path);
  const done: string[] = [];
  const use = (name: string, urgent = false) =>
    line.use(
      async (agent) => {
        await agent.execute('guest-ping', nothing, within(2000));
        done.push(name);
      },
      { urgent },
      within(5000),
    );
  await Promise.all([use('first'), use('second'), use('third'), use('stop', true)]);
  assert.deepEqual(done, ['first', 'stop', 'second', 'third']);
});

test('all use one connection; after a failure the next has a new one', async (t) => {
  let connections = 0;
  let silent = false;
  const path = await listen(t, (line, socket) => {
    if (answerSync(line, socket)) connections += 1;
    else if (!silent) socket.write('{"return": {}}\n');
  });
  await using line = new AgentLine(path);
  const ping = (ms: number) =>
    line.use((agent) => agent.execute('guest-ping', nothing, within(ms)), {}, within(5000));
  await ping(2000);
  await ping(2000);
  assert.equal(connections, 1);
  silent = true;
  await assert.rejects(ping(100), { code: 'timeout' });
  silent = false;
  await ping(2000);
  assert.equal(connections, 2);
});

test('an agent that has stopped answering costs a stop no more than its own limit', async (t) => {
  const path = await listen(t, (line, socket) => void answerSync(line, socket));
  await using line = new AgentLine(path);
  const hung = line.use(() => never, {}, within(5000));
  hung.catch(() => {});
  const begun = performance.now();
  const stop = line.use(async () => {}, { urgent: true }, within(100));
  await assert.rejects(stop, { name: 'TimeoutError' });
  assert.ok(performance.now() - begun < patient(1000));
});

test('a turn that is given up is passed on', async (t) => {
  const path = await listen(t, (line, socket) => void answerSync(line, socket));
  await using line = new AgentLine(path);
  const { promise, resolve } = Promise.withResolvers<void>();
  const first = line.use(() => promise, {}, within(5000));
  await assert.rejects(
    line.use(async () => {}, {}, within(50)),
    { name: 'TimeoutError' },
  );
  const third = line.use(async () => 3, {}, within(5000));
  resolve();
  await first;
  assert.equal(await third, 3);
});
