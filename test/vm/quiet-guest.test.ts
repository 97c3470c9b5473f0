import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { QmpClient } from '#qmp';
import { whileQuiet } from '../../src/vm/control/quiet-guest.ts';
import { AgentLine } from '../../src/vm/guest/agent/agent-line.ts';
import { QmpServer } from '../support/qmp-server.ts';
import { answerSync, listen } from '../support/scripted-agent.ts';
import { collect, soon } from '../support/vm.ts';

/** What the agent answers to a command, as JSON; undefined: nothing, ever. */
type Answers = Readonly<Record<string, string | undefined>>;

const willing: Answers = {
  'guest-fsfreeze-freeze': '{"return": 3}',
  'guest-fsfreeze-thaw': '{"return": 3}',
};

/** A short work of a quiet guest: what happened, in its order, and what the operator reads. */
async function quietly(
  t: TestContext,
  answers: Answers,
  { connected = true, work = async () => {}, waiting = soon() } = {},
) {
  const happened: string[] = [];
  const path = await listen(t, (line, socket) => {
    if (answerSync(line, socket)) return;
    const { execute } = JSON.parse(line);
    happened.push(execute.replace('guest-fsfreeze-', ''));
    const answer = answers[execute];
    if (answer !== undefined) socket.write(`${answer}\n`);
  });
  await using server = await QmpServer.start({
    script: ({ execute, id }, peer) =>
      peer.answer(
        id,
        execute === 'query-chardev' ? [{ label: 'agent', 'frontend-open': connected }] : {},
      ),
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  await using agent = new AgentLine(path);
  const quiet = { qmp, agent, log: collect([]), freezeMs: 300 };
  const done = async (): Promise<void> => {
    happened.push('work');
    await work();
  };
  const result = await whileQuiet(done, quiet, waiting).catch(String);
  return { happened, result };
}

test('V-55: the guest is frozen for the work and no longer', async (t) => {
  assert.deepEqual(await quietly(t, willing), {
    happened: ['freeze', 'work', 'thaw'],
    result: 'consistent: 3 file systems were frozen',
  });
});

test('V-55: a guest is thawed after a work that failed, and after a freeze that was not answered', async (t) => {
  const work = () => Promise.reject(new Error('no room'));
  assert.deepEqual(await quietly(t, willing, { work }), {
    happened: ['freeze', 'work', 'thaw'],
    result: 'Error: no room',
  });
  const hanging = await quietly(t, { ...willing, 'guest-fsfreeze-freeze': undefined });
  assert.deepEqual(hanging.happened, ['freeze', 'work', 'thaw']);
  assert.match(hanging.result, /^as after a power failure: not frozen: .*did not answer/);
});

test('V-55: a guest that refuses, and one without an agent, is backed up as after a power failure', async (t) => {
  const refusal = '{"error": {"class": "CommandNotFound", "desc": "disabled"}}';
  const refusing = await quietly(t, { ...willing, 'guest-fsfreeze-freeze': refusal });
  assert.deepEqual(refusing.happened, ['freeze', 'work', 'thaw']);
  assert.match(refusing.result, /^as after a power failure: not frozen: .*disabled/);
  assert.deepEqual(await quietly(t, willing, { connected: false }), {
    happened: ['work'],
    result: 'as after a power failure: the guest agent is not connected',
  });
});

test('V-55: a guest is thawed also where the backup was cancelled meanwhile', async (t) => {
  const cancel = new AbortController();
  const work = async (): Promise<void> => {
    cancel.abort();
    cancel.signal.throwIfAborted();
  };
  const { happened } = await quietly(t, willing, { work, waiting: cancel });
  assert.deepEqual(happened, ['freeze', 'work', 'thaw']);
});
