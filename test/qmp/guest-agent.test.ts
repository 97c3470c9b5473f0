import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { GuestAgent } from '#qmp';
import type { QmpError } from '../../src/qmp/error.ts';
import { patient } from '../support/patience.ts';
import { type Agent, answerSync, listen, syncId } from '../support/scripted-agent.ts';
import { tmpDir } from '../support/tmp.ts';

const within = (ms: number) => ({ signal: AbortSignal.timeout(ms) });

const powerdown = { mode: 'powerdown' } as const;

test('V-84 V-87: an order that is carried out has no answer but the end', async (t) => {
  const seen: unknown[] = [];
  const path = await listen(t, (line, socket) => {
    if (answerSync(line, socket)) return;
    seen.push(JSON.parse(line));
    setTimeout(() => socket.end(), 20);
  });
  await using agent = await GuestAgent.connect(path, within(2000));
  await agent.order('guest-shutdown', powerdown, within(2000));
  assert.deepEqual(seen, [{ execute: 'guest-shutdown', arguments: powerdown }]);
});

test('an order that is not refused in time is taken for one that is being carried out', async (t) => {
  const path = await listen(t, (line, socket) => void answerSync(line, socket));
  await using agent = await GuestAgent.connect(path, within(2000));
  const begun = performance.now();
  await agent.order('guest-shutdown', powerdown, within(100));
  assert.ok(performance.now() - begun < patient(1000));
});

test('an order that is refused fails with the agent’s message', async (t) => {
  const path = await listen(t, (line, socket) => {
    if (answerSync(line, socket)) return;
    socket.write('{"error": {"class": "GenericError", "desc": "not allowed"}}\n');
  });
  await using agent = await GuestAgent.connect(path, within(2000));
  await assert.rejects(agent.order('guest-shutdown', powerdown, within(2000)), {
    name: 'QmpError',
    code: 'command',
    message: 'the guest agent refused guest-shutdown: not allowed',
  });
});

test('V-84: what an agent gives as its reason is one short line, harmless to the terminal that shows it', async (t) => {
  const desc = `no\u001b[2J\r\n\u202e${'x'.repeat(60_000)}`;
  const path = await listen(t, (line, socket) => {
    if (answerSync(line, socket)) return;
    socket.write(`${JSON.stringify({ error: { desc } })}\n`);
  });
  await using agent = await GuestAgent.connect(path, within(2000));
  await assert.rejects(agent.execute('guest-ping', {}, within(2000)), {
    code: 'command',
    message: /^the guest agent refused guest-ping: no \[2J x{192}…$/,
  });
});

const before: Readonly<Record<string, string>> = {
  'answers to somebody else': '{"return": 17}\n{"return": {}}\n{"return": 1',
  'the rest of a line': 'turn": {"a": [1, 2',
  'no JSON at all': 'hello\n}}}}\n"text"\n[1]\nnull\n',
  'bytes that are no text': '\xfe\x80\xc3\n\xff\xff\xff',
  'an event, and an error':
    '{"event": "X"}\n{"error": {"class": "GenericError", "desc": "late"}}\n',
};

for (const [what, bytes] of Object.entries(before)) {
  test(`V-84: before the sync comes ${what}`, async (t) => {
    const path = await listen(t, (line, socket) => {
      if (syncId(line) === undefined) {
        socket.end();
        return;
      }
      socket.write(Buffer.from(bytes, 'latin1'));
      answerSync(line, socket);
    });
    await using agent = await GuestAgent.connect(path, within(2000));
    await agent.order('guest-shutdown', powerdown, within(2000));
  });
}

test('an answer may come in single bytes', async (t) => {
  const drip = async (socket: Socket, bytes: Buffer): Promise<void> => {
    for (const byte of bytes) {
      socket.write(Buffer.from([byte]));
      await sleep(1);
    }
  };
  const path = await listen(t, (line, socket) => {
    const id = syncId(line);
    if (id === undefined) socket.end();
    else void drip(socket, Buffer.from(`\xff{"return": ${id}}\n`, 'latin1'));
  });
  await using agent = await GuestAgent.connect(path, within(5000));
  await agent.order('guest-shutdown', powerdown, within(2000));
});

test('a command has its answer; a refusal leaves the session usable', async (t) => {
  const path = await listen(t, (line, socket) => {
    if (answerSync(line, socket)) return;
    const refused = JSON.parse(line).arguments.path === '/bin/none';
    socket.write(refused ? '{"error": {"desc": "no such file"}}\n' : '{"return": {"pid": 7}}\n');
  });
  await using agent = await GuestAgent.connect(path, within(2000));
  const start = (program: string) =>
    agent.execute('guest-exec', { path: program, arg: [], env: [] }, within(2000));
  assert.deepEqual(await start('/bin/true'), { pid: 7 });
  await assert.rejects(start('/bin/none'), {
    code: 'command',
    message: 'the guest agent refused guest-exec: no such file',
  });
  assert.deepEqual(await start('/bin/true'), { pid: 7 });
});

const unusable: Readonly<Record<string, readonly [answer: string, code: QmpError['code']]>> = {
  'answers nothing': ['', 'timeout'],
  'answers half a line': ['{"return": {"pid"', 'timeout'],
  'gives a pid that is none': ['{"return": {"pid": "7"}}\n', 'protocol'],
  'answers with a list': ['[1]\n{"return": {"pid": 7}}\n', 'protocol'],
  'answers with garbage': ['hello\n', 'protocol'],
  'answers with a line without end': ['x'.repeat(100_000), 'protocol'],
};

for (const [what, [answer, code]] of Object.entries(unusable)) {
  test(`V-84: an agent that ${what} ends the session, so that no late answer is mistaken`, async (t) => {
    const path = await listen(t, (line, socket) => {
      if (!answerSync(line, socket)) socket.write(answer);
    });
    await using agent = await GuestAgent.connect(path, within(2000));
    const begun = performance.now();
    const started = agent.execute('guest-exec', { path: '/x', arg: [], env: [] }, within(300));
    await assert.rejects(started, { name: 'QmpError', code });
    assert.ok(performance.now() - begun < patient(2000));
    assert.equal(agent.open, false);
  });
}

/** What a guest may do to the host that asks it; how that ends. */
const hostile: Readonly<
  Record<string, { readonly agent: Agent; readonly codes: readonly QmpError['code'][] }>
> = {
  'sends nothing': { agent: () => {}, codes: ['timeout'] },
  'gives another id': {
    agent: (_line, socket) => void socket.write('\xff{"return": 5}\n', 'latin1'),
    codes: ['timeout'],
  },
  'gives the id as text': {
    agent: (line, socket) => void socket.write(`{"return": "${syncId(line)}"}\n`),
    codes: ['timeout'],
  },
  'hangs up': { agent: (_line, socket) => void socket.end(), codes: ['closed'] },
  'writes a line without end': {
    agent: (_line, socket) => {
      const flood = (): void => {
        while (!socket.destroyed && socket.write('x'.repeat(65_536)));
        if (!socket.destroyed) socket.once('drain', flood);
      };
      flood();
    },
    codes: ['closed'],
  },
  'nests without end': {
    agent: (_line, socket) => void socket.end(`${'['.repeat(50_000)}\n`),
    codes: ['closed'],
  },
  'writes lines without end': {
    agent: (_line, socket) => {
      const flood = (): void => {
        while (!socket.destroyed && socket.write('{"return": 1}\n'.repeat(1000)));
        if (!socket.destroyed) socket.once('drain', flood);
      };
      flood();
    },
    codes: ['protocol'],
  },
};

for (const [what, { agent, codes }] of Object.entries(hostile)) {
  test(`V-84: a guest that ${what} costs no more than the wait`, async (t) => {
    const path = await listen(t, agent);
    const begun = performance.now();
    await assert.rejects(GuestAgent.connect(path, within(300)), (error: QmpError) => {
      assert.equal(error.name, 'QmpError');
      assert.ok(codes.includes(error.code), `${error.code}: ${error.message}`);
      return true;
    });
    assert.ok(performance.now() - begun < patient(2000));
  });
}

test('where no process listens, that is reported', async (t) => {
  await assert.rejects(GuestAgent.connect(join(tmpDir(t), 'none'), within(500)), {
    code: 'connect',
  });
  await assert.rejects(
    GuestAgent.connect(join(tmpDir(t), 'none'), { signal: AbortSignal.abort() }),
    { code: 'timeout' },
  );
});
