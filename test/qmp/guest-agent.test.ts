import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { GuestAgent } from '#qmp';
import type { QmpError } from '../../src/qmp/error.ts';
import { tmpDir } from '../support/tmp.ts';

/** What came in before, and the line that has just come in. */
type Agent = (line: string, socket: Socket) => void;

/** A guest's port, with something behind it that answers line by line. */
async function listen(t: TestContext, agent: Agent): Promise<string> {
  const path = join(tmpDir(t), 'agent.sock');
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    let rest = '';
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      const lines = (rest + chunk.toString('latin1')).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) agent(line, socket);
    });
  });
  server.listen(path);
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return path;
}

const within = (ms: number) => ({ signal: AbortSignal.timeout(ms) });

/** The id of a sync, which the restart byte precedes. */
function syncId(line: string): number | undefined {
  if (!line.startsWith('\xff')) return undefined;
  const { execute, arguments: parameters } = JSON.parse(line.slice(1));
  return execute === 'guest-sync-delimited' ? parameters.id : undefined;
}

function answerSync(line: string, socket: Socket): boolean {
  const id = syncId(line);
  if (id === undefined) return false;
  socket.write(Buffer.concat([Buffer.from([0xff]), Buffer.from(`{"return": ${id}}\n`)]));
  return true;
}

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
  assert.ok(performance.now() - begun < 1000);
});

test('an order that is refused says so in the agent’s words', async (t) => {
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

/** What a guest may do to the host that asks it; how that ends. */
const hostile: Readonly<
  Record<string, { readonly agent: Agent; readonly codes: readonly QmpError['code'][] }>
> = {
  'says nothing': { agent: () => {}, codes: ['timeout'] },
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
    assert.ok(performance.now() - begun < 2000);
  });
}

test('where nobody listens, that is said', async (t) => {
  await assert.rejects(GuestAgent.connect(join(tmpDir(t), 'none'), within(500)), {
    code: 'connect',
  });
  await assert.rejects(
    GuestAgent.connect(join(tmpDir(t), 'none'), { signal: AbortSignal.abort() }),
    { code: 'timeout' },
  );
});
