import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sendWithDescriptor } from '#host';
import { QmpClient, type QmpEvent } from '../../src/qmp/index.ts';
import { greeting, type Peer, QmpServer, type Script } from '../support/qmp-server.ts';
import { tmpDir } from '../support/tmp.ts';

const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(5000) });
const brief = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(40) });
const idle: Script = () => {};

async function names(events: AsyncIterable<QmpEvent>): Promise<string[]> {
  const seen: string[] = [];
  for await (const { event } of events) seen.push(event);
  return seen;
}

/** Events until the iteration ends or throws, and what it threw. */
async function outcome(events: AsyncIterable<QmpEvent>): Promise<[string[], unknown]> {
  const seen: string[] = [];
  try {
    for await (const { event } of events) seen.push(event);
    return [seen, undefined];
  } catch (error) {
    return [seen, error];
  }
}

async function dial(path: string): Promise<Socket> {
  const socket = connect({ path });
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

test('client: connects, negotiates, executes', async () => {
  await using server = await QmpServer.start({
    script: (command, peer) => peer.answer(command.id, { status: 'running', running: true }),
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  assert.deepEqual(await qmp.execute('query-status', {}, soon()), {
    status: 'running',
    running: true,
  });
  assert.deepEqual(
    server.peer.received.map(({ execute }) => execute),
    ['qmp_capabilities', 'query-status'],
  );
});

test('client: answers find their calls in whatever order they come', async () => {
  const ids: unknown[] = [];
  await using server = await QmpServer.start({
    script: (command, peer) => {
      ids.push(command.id);
      if (ids.length < 3) return;
      for (const id of ids.toReversed()) peer.answer(id, `answer to ${id}`);
    },
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  const ask = (): Promise<unknown> =>
    qmp.execute('qom-get', { path: '/', property: 'type' }, soon());
  const answers = await Promise.all([ask(), ask(), ask()]);
  assert.deepEqual(
    answers,
    ids.map((id) => `answer to ${id}`),
  );
});

test('client: commands that are begun together leave in one piece, in their order', async (t) => {
  await using server = await QmpServer.start({
    script: ({ id }, peer) => peer.answer(id, {}),
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  const pieces: number[] = [];
  server.peer.socket.on('data', (chunk: Buffer) => pieces.push(chunk.length));
  const ask = () =>
    qmp.together(() =>
      Promise.all([qmp.execute('stop', {}, soon()), qmp.execute('cont', {}, soon())]),
    );
  for (let times = 0; times < 5; times += 1) await ask();
  assert.equal(pieces.length, 5);
  const commands = server.peer.received.map(({ execute }) => execute);
  assert.deepEqual(commands.slice(1, 5), ['stop', 'cont', 'stop', 'cont']);
  assert.throws(() => qmp.together(() => t.assert.fail('of what begins them')), /of what begins/);
  await qmp.execute('cont', {}, soon());
});

test('client: a refusal is a command error with its reason', async () => {
  await using server = await QmpServer.start({
    script: (command, peer) => peer.refuse(command.id, 'DeviceNotFound', 'no such device'),
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  await assert.rejects(qmp.execute('cont', {}, soon()), {
    name: 'QmpError',
    code: 'command',
    message: 'QEMU refused cont: no such device',
  });
  await assert.rejects(qmp.execute('system_powerdown', {}, soon()), { code: 'command' });
});

test('client: an answer that is not what the command promises fails that call alone', async () => {
  await using server = await QmpServer.start({
    script: (command, peer) =>
      peer.answer(command.id, command.execute === 'query-status' ? { status: 5 } : {}),
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  await assert.rejects(qmp.execute('query-status', {}, soon()), {
    code: 'protocol',
    message: /query-status is unusable: status: /,
  });
  assert.deepEqual(await qmp.execute('cont', {}, soon()), {});
});

test('client: 64-bit figures arrive unrounded', async () => {
  await using server = await QmpServer.start({
    script: (command, peer) =>
      peer.raw(`{"return": {"stat-free-memory": 18446744073709551615}, "id": ${command.id}}\r\n`),
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  const stats = await qmp.execute('qom-get', { path: '/b', property: 'guest-stats' }, soon());
  assert.deepEqual(stats, { 'stat-free-memory': 18446744073709551615n });
});

test('client: nothing listens, or there is no socket: connect error', async (t) => {
  const missing = join(tmpDir(t), 'qmp.sock');
  await assert.rejects(QmpClient.connect(missing, soon()), {
    code: 'connect',
    message: /qmp.sock/,
  });
});

test('client: no greeting: timeout at the deadline, and the socket is gone', async () => {
  await using server = await QmpServer.start({ greet: false });
  await assert.rejects(QmpClient.connect(server.path, { signal: AbortSignal.timeout(400) }), {
    code: 'timeout',
    message: /greeting/,
  });
  await sleep(20);
  assert.equal(server.peer.socket.destroyed || server.peer.socket.readableEnded, true);
});

test('client: a signal that is aborted already stops everything at once', async () => {
  await using server = await QmpServer.start();
  const aborted = { signal: AbortSignal.abort(new Error('agent stops')) };
  await assert.rejects(QmpClient.connect(server.path, aborted), { code: 'timeout' });
  await using qmp = await QmpClient.connect(server.path, soon());
  await assert.rejects(qmp.execute('cont', {}, aborted), { code: 'timeout' });
  assert.equal(server.peers.at(-1)?.received.length, 1);
  await assert.rejects(names(qmp.events(aborted)), { code: 'timeout' });
});

test('client: negotiation on a socket of the caller, greeted late and in single bytes', async () => {
  await using server = await QmpServer.start({ greet: false });
  const socket = await dial(server.path);
  const pending = QmpClient.negotiate(socket, soon());
  await sleep(30);
  for (const byte of Buffer.from(greeting)) server.peer.raw(Uint8Array.of(byte));
  await using qmp = await pending;
  assert.deepEqual(await qmp.execute('cont', {}, soon()), {});
});

test('client: negotiation on a socket that is over already fails as closed', async () => {
  await using server = await QmpServer.start();
  const socket = await dial(server.path);
  socket.destroy();
  await assert.rejects(QmpClient.negotiate(socket, soon()), { code: 'closed' });
});

const openings: Readonly<Record<string, readonly [(peer: Peer) => void, string]>> = {
  'garbage instead of a greeting': [(peer) => peer.raw('(qemu) \n'), 'protocol'],
  'an HTTP server': [(peer) => peer.raw('HTTP/1.1 400 Bad Request\r\n\r\n'), 'protocol'],
  'a close': [(peer) => peer.socket.end(), 'closed'],
  'half a greeting, then a close': [(peer) => peer.socket.end(greeting.slice(0, 30)), 'protocol'],
  'two greetings': [(peer) => peer.raw(greeting + greeting), 'protocol'],
};
for (const [name, [open, code]] of Object.entries(openings)) {
  test(`client: ${name} ends the negotiation`, async () => {
    await using server = await QmpServer.start({ greet: false });
    const socket = await dial(server.path);
    const pending = QmpClient.negotiate(socket, soon());
    while (server.peers.length === 0) await sleep(1);
    open(server.peer);
    await assert.rejects(pending, { name: 'QmpError', code });
    assert.equal(socket.destroyed, true);
  });
}

const breakages: Readonly<Record<string, readonly [(peer: Peer) => void, RegExp]>> = {
  garbage: [(peer) => peer.raw('}{\r\n'), /not JSON/],
  'a line that never ends': [(peer) => peer.raw(Buffer.alloc(17 * 1024 * 1024, 0x20)), /longer/],
  'hostile nesting': [(peer) => peer.raw(`${'['.repeat(100_000)}\r\n`), /deeper/],
  'bytes that are no UTF-8': [(peer) => peer.raw(Uint8Array.of(0x7b, 0xff, 0x0a)), /UTF-8/],
  'an error without an id': [
    (peer) => peer.line({ error: { class: 'GenericError', desc: 'JSON parse error' } }),
    /did not understand/,
  ],
  'a close inside a line': [(peer) => peer.socket.end('{"return": '), /inside a line/],
};
for (const [name, [breakIt, message]] of Object.entries(breakages)) {
  test(`client: ${name} breaks the session: calls and listeners end at once`, async () => {
    await using server = await QmpServer.start({ script: idle });
    await using qmp = await QmpClient.connect(server.path, soon());
    const events = qmp.events();
    const calls = [qmp.execute('system_powerdown', {}, soon()), qmp.execute('cont', {}, soon())];
    const listening = outcome(events);
    while (server.peer.received.length < 3) await sleep(1);
    server.peer.event('STOP');
    breakIt(server.peer);
    for (const result of await Promise.allSettled(calls)) {
      assert.equal(result.status, 'rejected');
      assert.equal(result.reason.code, 'protocol');
      assert.match(result.reason.message, message);
    }
    await qmp.closed;
    const [seen, error] = await listening;
    assert.deepEqual(seen, ['STOP']);
    assert.match(String(error), message);
    await assert.rejects(qmp.execute('cont', {}, soon()), { code: 'closed' });
  });
}

test('client: an error without an id while nothing is pending is ignored', async () => {
  await using server = await QmpServer.start();
  await using qmp = await QmpClient.connect(server.path, soon());
  const events = qmp.events();
  server.peer.line({ error: { class: 'GenericError', desc: 'stray' } });
  server.peer.event('STOP');
  await events.next(); // the line before it has been read as well
  assert.deepEqual(await qmp.execute('cont', {}, soon()), {});
});

test('client: replies with unknown ids are dropped', async () => {
  await using server = await QmpServer.start();
  await using qmp = await QmpClient.connect(server.path, soon());
  for (const id of [999, 'x', null, { a: 1 }, undefined]) server.peer.answer(id);
  server.peer.refuse(999, 'GenericError', 'not yours');
  await sleep(20);
  assert.deepEqual(await qmp.execute('cont', {}, soon()), {});
});

test('client: a call ends at its deadline; its late answer is dropped and disturbs no other call', async () => {
  let late: unknown;
  await using server = await QmpServer.start({
    script: (command, peer) => {
      if (command.execute === 'system_powerdown') late = command.id;
      else peer.answer(command.id);
    },
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  await assert.rejects(qmp.execute('system_powerdown', {}, brief()), {
    code: 'timeout',
    message: 'system_powerdown: no answer before the deadline',
  });
  server.peer.answer(late, 'far too late');
  server.peer.refuse(late, 'GenericError', 'and again');
  assert.deepEqual(await qmp.execute('cont', {}, soon()), {});
});

test('client: a cancelled call reports it and keeps the reason', async () => {
  await using server = await QmpServer.start({ script: idle });
  await using qmp = await QmpClient.connect(server.path, soon());
  const given = new AbortController();
  const call = qmp.execute('system_powerdown', {}, { signal: given.signal });
  const reason = new Error('task destroyed');
  given.abort(reason);
  await assert.rejects(call, { code: 'timeout', message: /the wait was cancelled/, cause: reason });
});

test('client: settled calls leave no listener on a long-lived signal', async () => {
  await using server = await QmpServer.start();
  await using qmp = await QmpClient.connect(server.path, soon());
  const { signal } = new AbortController();
  let listeners = 0;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners += 1;
    add(...args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listeners -= 1;
    remove(...args);
  };
  for (let call = 0; call < 20; call += 1) await qmp.execute('cont', {}, { signal });
  await qmp.events({ signal }).return?.();
  assert.equal(listeners, 0);
});

test('client: disposal settles every waiter: calls as closed, listeners by their end', async () => {
  await using server = await QmpServer.start({ script: idle });
  const qmp = await QmpClient.connect(server.path, soon());
  const call = qmp.execute('system_powerdown', {}, soon());
  const refused = assert.rejects(call, { code: 'closed' });
  const listening = outcome(qmp.events());
  await qmp[Symbol.asyncDispose]();
  await qmp[Symbol.asyncDispose]();
  await refused;
  await qmp.closed;
  assert.deepEqual(await listening, [[], undefined]);
  assert.deepEqual(await names(qmp.events()), []);
});

test('client: QEMU closing between two lines ends listeners in order and calls as closed', async () => {
  await using server = await QmpServer.start({
    script: (_command, peer) => {
      peer.event('SHUTDOWN', { guest: false, reason: 'host-qmp-quit' });
      peer.socket.end();
    },
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  const events = qmp.events();
  await assert.rejects(qmp.execute('quit', {}, soon()), { code: 'closed' });
  assert.deepEqual(await names(events), ['SHUTDOWN']);
});

test('client: a reset connection is a breakage, never a crash', async () => {
  await using server = await QmpServer.start({ script: idle });
  await using qmp = await QmpClient.connect(server.path, soon());
  const listening = outcome(qmp.events());
  const call = assert.rejects(qmp.execute('system_powerdown', {}, soon()), { code: 'closed' });
  while (server.peer.received.length < 2) await sleep(1);
  // What we send from here on stays unread in the peer's socket, which makes its close a reset.
  server.peer.socket.pause();
  const unread = { path: 'x'.repeat(900_000), property: 'x' };
  const second = assert.rejects(qmp.execute('qom-get', unread, soon()), {
    code: 'closed',
  });
  await sleep(20);
  server.peer.socket.destroy();
  await Promise.all([call, second]);
  const [, error] = await listening;
  assert.match(String(error), /broke/);
});

test('client: every listener gets every event since it was made, the reader of none delays others', async () => {
  await using server = await QmpServer.start({
    script: (command, peer) => {
      peer.event('STOP');
      peer.answer(command.id);
    },
  });
  await using qmp = await QmpClient.connect(server.path, soon());
  const early = qmp.events();
  await qmp.execute('system_powerdown', {}, soon());
  const late = qmp.events();
  await qmp.execute('system_powerdown', {}, soon());
  server.peer.socket.end();
  assert.deepEqual(await names(early), ['STOP', 'STOP']);
  assert.deepEqual(await names(late), ['STOP']);
});

test('client: a listener that reads nothing is cut off; calls and others go on', async () => {
  await using server = await QmpServer.start();
  await using qmp = await QmpClient.connect(server.path, soon());
  const asleep = qmp.events();
  const awake = outcome(qmp.events());
  for (let count = 0; count < 1500; count += 1) server.peer.event('RESET', { guest: true });
  server.peer.event('SHUTDOWN');
  assert.deepEqual(await qmp.execute('cont', {}, soon()), {});
  await qmp[Symbol.asyncDispose]();
  const [seen, error] = await outcome(asleep);
  assert.ok(seen.length >= 1024 && seen.length < 1100);
  assert.match(String(error), /cut off/);
  const [all, none] = await awake;
  assert.deepEqual([all.length, all.at(-1), none], [1501, 'SHUTDOWN', undefined]);
});

test('client: waiting for events ends at its deadline', async () => {
  await using server = await QmpServer.start();
  await using qmp = await QmpClient.connect(server.path, soon());
  await assert.rejects(names(qmp.events(brief())), { code: 'timeout' });
  assert.deepEqual(await qmp.execute('cont', {}, soon()), {});
});

test('client: a session cut at every byte gives the same', async () => {
  await using server = await QmpServer.start({ script: idle });
  // Ids are counted from 1, and negotiation took that one.
  const answers = [
    '{"timestamp": {"seconds": 1, "microseconds": 0}, "event": "STOP"}\r\n',
    '{"return": {"status": "paused", "running": false}, "id": 2}\r\n',
    '{"id": 3, "error": {"class": "GenericError", "desc": "no"}}\r\n',
  ].join('');
  for (let cut = 0; cut <= answers.length; cut += 1) {
    await using qmp = await QmpClient.connect(server.path, soon());
    const peer = server.peers.at(-1);
    assert.ok(peer !== undefined);
    const events = qmp.events();
    const status = qmp.execute('query-status', {}, soon());
    const refused = assert.rejects(qmp.execute('cont', {}, soon()), { code: 'command' });
    peer.raw(answers.slice(0, cut));
    await sleep(1);
    peer.raw(answers.slice(cut));
    assert.deepEqual(await status, { status: 'paused', running: false });
    await refused;
    peer.socket.end();
    assert.deepEqual(await names(events), ['STOP']);
  }
});

test('client: an emulator that has stopped reading gets no more commands', async () => {
  await using server = await QmpServer.start({ script: idle });
  await using qmp = await QmpClient.connect(server.path, soon());
  server.peer.socket.pause();
  const long = 'x'.repeat(900_000);
  const ask = (): Promise<unknown> =>
    qmp.execute('qom-get', { path: long, property: 'x' }, brief());
  const results = await Promise.allSettled([ask(), ask(), ask(), ask(), ask()]);
  const messages = results.map((it) => (it.status === 'rejected' ? it.reason.message : ''));
  assert.match(messages.at(-1), /stopped reading/);
});

test('client: a command with a file comes after those before it, however many they are', async () => {
  await using server = await QmpServer.start();
  await using qmp = await QmpClient.connect(server.path, soon());
  const property = 'x'.repeat(1000);
  const passing = sendWithDescriptor.bind(null, 0);
  const before = Array.from({ length: 500 }, () =>
    qmp.execute('qom-get', { path: '/', property }, soon()),
  );
  const passed = qmp.executeWith(passing, 'getfd', { fdname: 'given' }, soon());
  const after = qmp.execute('query-status', {}, soon()).catch(() => {});
  await Promise.all([...before, passed, after]);
  const names = server.peer.received.map(({ execute }) => execute);
  assert.equal(names.indexOf('getfd') > 0, true);
  assert.equal(names.length, 503);
});

test('client: a file that can not be passed ends the session', async () => {
  await using server = await QmpServer.start();
  await using qmp = await QmpClient.connect(server.path, soon());
  const noFile = sendWithDescriptor.bind(null, -1);
  const call = qmp.executeWith(noFile, 'getfd', { fdname: 'x' }, soon());
  await assert.rejects(call, { code: 'closed' });
  await qmp.closed;
});
