import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { identify } from '#host';
import { AgentLine } from '../../src/vm/guest/agent/agent-line.ts';
import { ConsoleFeed } from '../../src/vm/logs/console-feed.ts';
import { GuestProgress } from '../../src/vm/progress/guest-progress.ts';
import type { RecordedReady } from '../../src/vm/store/record.ts';
import { type Agent, answerSync, listen } from '../support/scripted-agent.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect, eventually } from '../support/vm.ts';
import { exampleRecord } from '../support/vm-record.ts';

const minutes = { timeoutMs: 120_000, fail: false, agent: false } as const;
const opens = (open: boolean) => ({
  event: 'VSERPORT_CHANGE',
  data: { id: 'agent0', open },
  atMs: 0,
});

/** A guest whose progress is watched by one plugin process after the other. */
class Guest {
  readonly events: string[] = [];
  readonly failures: string[] = [];
  readonly #t: TestContext;
  readonly #path: string;
  readonly #ready: RecordedReady;
  readonly #agentPath: string;

  constructor(t: TestContext, ready: Partial<RecordedReady>, agentPath = '/nonexistent') {
    this.#t = t;
    this.#path = join(tmpDir(t), 'progress');
    this.#ready = { ...minutes, ...ready };
    this.#agentPath = agentPath;
  }

  watched(): { readonly progress: GuestProgress; readonly console: ConsoleFeed } {
    const console = new ConsoleFeed();
    const agent = new AgentLine(this.#agentPath);
    const record = { ...exampleRecord, ready: this.#ready };
    const progress = new GuestProgress({
      record,
      path: this.#path,
      identity: identify(process.pid) ?? assert.fail(),
      qmp: undefined,
      resetAtMs: undefined,
      agent,
      console,
      emit: (message) => {
        if (/ready/.test(message)) this.events.push(message);
      },
      log: collect([]),
      onFailed: () => this.failures.push(progress.failure ?? ''),
    });
    this.#t.after(async () => {
      progress[Symbol.dispose]();
      await agent[Symbol.asyncDispose]();
    });
    return { progress, console };
  }

  has(count: number): Promise<void> {
    return eventually(() => this.events.length >= count, `${count} events`);
  }
}

/** Lets what is under way come to its end, to show that nothing more follows. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 50));

test('V-100: a line on the console makes the guest ready, once', async (t) => {
  const guest = new Guest(t, { log: '^Ready$' });
  const { progress, console } = guest.watched();
  assert.equal(progress.attributes.health, 'starting');
  for (const piece of ['not Ready\r\nRea', 'dy']) {
    console.push(Buffer.from(piece));
    await settled();
    assert.deepEqual(guest.events, []);
  }
  console.push(Buffer.from('\r\n'));
  await guest.has(1);
  console.push(Buffer.from('Ready\r\n'));
  await settled();
  assert.deepEqual(guest.events.length, 1);
  assert.match(guest.events[0] ?? '', /^Guest is ready after \d+ s$/);
  assert.equal(progress.attributes.health, 'ready');
  assert.match(progress.attributes['ready.after'] ?? '', /^\d+ (s|min)/);
});

test('what the console showed before it was looked at counts', async (t) => {
  const guest = new Guest(t, { log: 'login:' });
  const console = new ConsoleFeed();
  console.push(Buffer.from('debian log'));
  console.push(Buffer.from('in: '));
  let seen = '';
  console.listen((bytes) => {
    seen += Buffer.from(bytes).toString();
  });
  assert.equal(seen, 'debian login: ');
  guest.watched().console.push(Buffer.from(seen));
  await guest.has(1);
});

test('a server that accepts and never sends a byte is ready', async (t) => {
  const server = createServer(() => {}).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  t.after(() => server.close());
  const guest = new Guest(t, { port: { address: '127.0.0.1', port } });
  guest.watched();
  await guest.has(1);
  assert.match(guest.events[0] ?? '', /^Guest is ready/);
});

test('a server that comes later is found', async (t) => {
  const server = createServer(() => {}).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const guest = new Guest(t, { port: { address: '127.0.0.1', port } });
  guest.watched();
  await settled();
  assert.deepEqual(guest.events, []);
  server.listen(port, '127.0.0.1');
  t.after(() => server.close());
  await guest.has(1);
});

const answers: Agent = (line, socket) => {
  if (!answerSync(line, socket)) socket.write('{"return": {}}\n');
};

test('the agent is asked once its port is open, and again until it answers', async (t) => {
  let asked = 0;
  const path = await listen(t, (line, socket) => {
    asked += 1;
    if (asked > 2) answers(line, socket);
  });
  const guest = new Guest(t, { agent: true }, path);
  const { progress } = guest.watched();
  await settled();
  assert.equal(asked, 0, 'a guest without an agent is left alone');
  progress.observe(opens(true));
  await guest.has(1);
  assert.ok(asked > 2);
});

test('an agent whose port closes is not asked', async (t) => {
  let asked = 0;
  const path = await listen(t, () => {
    asked += 1;
  });
  const guest = new Guest(t, { agent: true }, path);
  const { progress } = guest.watched();
  progress.observe(opens(true));
  progress.observe(opens(false));
  await settled();
  assert.equal(asked, 0);
});

for (const [what, agent] of [
  ['lies', (_line, socket) => void socket.write('{"return": 1}\n')],
  ['floods', (_line, socket) => void socket.write('x'.repeat(200_000))],
  ['answers with half a reply', (_line, socket) => void socket.write('{"retu')],
  ['hangs up', (_line, socket) => void socket.destroy()],
] as const satisfies readonly (readonly [string, Agent])[]) {
  test(`an agent that ${what} makes no guest ready`, async (t) => {
    const guest = new Guest(t, { agent: true, timeoutMs: 500 }, await listen(t, agent));
    guest.watched().progress.observe(opens(true));
    await guest.has(1);
    assert.deepEqual(guest.events, ['Guest is not ready after 1 s: its agent does not answer']);
  });
}

test('a guest that is late is reported with what is missing, and still becomes ready', async (t) => {
  const guest = new Guest(t, { agent: true, log: 'x', timeoutMs: 500 });
  const { progress, console } = guest.watched();
  await guest.has(1);
  const lacks = 'its agent does not answer; its console has not shown what "log" describes';
  assert.deepEqual(guest.events, [`Guest is not ready after 1 s: ${lacks}`]);
  assert.equal(progress.attributes.health, 'not ready');
  assert.deepEqual(guest.failures, []);
  console.push(Buffer.from('x'));
  await settled();
  assert.equal(guest.events.length, 1, 'the agent is missing still');
});

test('with fail the task fails, with the reason', async (t) => {
  const guest = new Guest(t, { log: 'x', timeoutMs: 500, fail: true });
  const { console } = guest.watched();
  await eventually(() => guest.failures.length > 0, 'the failure');
  const reason = 'Guest is not ready after 1 s: its console has not shown what "log" describes';
  assert.deepEqual(guest.failures, [reason]);
  console.push(Buffer.from('x'));
  await settled();
  assert.deepEqual(guest.events, []);
  assert.equal(guest.watched().progress.failure, reason, 'a process after this one knows it');
  assert.equal(guest.failures.length, 1);
});

test('the next process goes on where one ended, and repeats no event', async (t) => {
  const server = createServer(() => {}).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  t.after(() => server.close());
  const place = { address: '127.0.0.1', port };
  const guest = new Guest(t, { log: 'first', port: place, agent: true }, await listen(t, answers));
  const first = guest.watched();
  first.console.push(Buffer.from('first'));
  await settled();
  first.progress[Symbol.dispose]();
  const second = guest.watched();
  assert.deepEqual(guest.events, []);
  second.progress.observe(opens(true));
  await guest.has(1);
  assert.match(guest.events[0] ?? '', /^Guest is ready/);
  second.progress[Symbol.dispose]();
  const third = guest.watched();
  assert.equal(third.progress.attributes.health, 'ready');
  third.console.push(Buffer.from('first'));
  third.progress.observe(opens(true));
  await settled();
  assert.equal(guest.events.length, 1);
});
