import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readlinkSync } from 'node:fs';
import { readlink } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { closeAside, kill, SpareNamespaces, spawnDetached } from '#host';
import { openFiles } from '../support/open-files.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { eventually } from '../support/vm.ts';

const isRoot = (t: TestContext): boolean =>
  requireOrSkip(t, process.getuid?.() === 0, 'needs root: namespaces');
const namespaces = (pid: number | 'self'): Record<string, string> =>
  Object.fromEntries(['net', 'ipc'].map((it) => [it, readlinkSync(`/proc/${pid}/ns/${it}`)]));

async function listening(t: TestContext, at: string | { port: number; host: string }) {
  const server: Server = createServer((socket) => socket.on('error', () => undefined));
  await new Promise<void>((resolve) => server.listen(at, resolve));
  t.after(() => server.close());
  return server;
}

/** What a program that is started alone or not gets of each address: the code of its error, or `connected`. */
async function reach(t: TestContext, alone: boolean, addresses: readonly object[]) {
  const path = join(tmpDir(t), 'out');
  const out = openSync(path, 'w');
  const script = `
    const { connect } = require('node:net');
    for (const at of ${JSON.stringify(addresses)}) {
      const socket = connect(at, () => { console.log('connected'); socket.destroy(); });
      socket.on('error', ({ code }) => console.log(code));
    }`;
  const stdio = ['ignore', out, out] as const;
  const child = await spawnDetached({
    program: process.execPath,
    args: ['-e', script],
    stdio,
    alone,
  });
  closeSync(out);
  await child.exit;
  return readFileSync(path, 'utf8').trim().split('\n').toSorted();
}

test('a program started alone reaches neither loopback services nor abstract sockets of the host', async (t) => {
  if (!isRoot(t)) return;
  const name = `\0nomad-driver-qmp-test-${process.pid}`;
  await listening(t, name);
  const tcp = await listening(t, { port: 0, host: '127.0.0.1' });
  const address = tcp.address();
  assert.ok(typeof address === 'object' && address !== null);
  const addresses = [{ path: name }, { host: '127.0.0.1', port: address.port }];
  assert.deepEqual(await reach(t, false, addresses), ['connected', 'connected']);
  assert.deepEqual(await reach(t, true, addresses), ['ECONNREFUSED', 'ENETUNREACH']);
});

test('each is alone, and this process stays at home with all its threads', async (t) => {
  if (!isRoot(t)) return;
  const home = namespaces('self');
  const children = await Promise.all(
    [1, 2].map(() =>
      spawnDetached({ program: '/bin/sleep', args: ['60'], stdio: [], alone: true }),
    ),
  );
  try {
    const all = [home, ...children.map(({ identity }) => namespaces(identity.pid))];
    for (const kind of ['net', 'ipc']) assert.equal(new Set(all.map((it) => it[kind])).size, 3);
    assert.deepEqual(namespaces('self'), home);
    const inPool = Array.from({ length: 8 }, () => readlink('/proc/thread-self/ns/net'));
    assert.deepEqual(new Set(await Promise.all(inPool)), new Set([home.net]));
  } finally {
    for (const { identity } of children)
      await kill(identity, { signal: AbortSignal.timeout(patient(10_000)) });
  }
});

test('a program that can not be started leaves this process at home, too', async (t) => {
  if (!isRoot(t)) return;
  const home = namespaces('self');
  const start = spawnDetached({ program: '/no/such', args: [], stdio: [], alone: true });
  await assert.rejects(start, { name: 'HostError', errno: 'ENOENT' });
  assert.deepEqual(namespaces('self'), home);
});

test('a spare pair of namespaces is made after a start, given once, and closed with its owner', async (t) => {
  if (!isRoot(t)) return;
  const held = (): readonly string[] =>
    openFiles(process.pid).filter((path) => /^(net|ipc):/.test(path));
  await using given = new AsyncDisposableStack();
  await using spares = new SpareNamespaces();
  const take = async (): Promise<readonly string[]> => {
    const empty = await spares.take({ signal: AbortSignal.timeout(patient(10_000)) });
    assert.ok(empty !== undefined);
    const fds = [empty.net, empty.ipc];
    given.defer(() => closeAside(...fds));
    return fds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`));
  };
  const first = await take();
  assert.deepEqual(held(), first);
  spares.replace();
  await eventually(() => held().length === 4, 'a spare pair');
  const spare = held().filter((path) => !first.includes(path));
  assert.deepEqual(await take(), spare);
  assert.equal(new Set([...first, ...spare, ...(await take())]).size, 6);
  spares.replace();
  await eventually(() => held().length === 8, 'another spare pair');
  await spares[Symbol.asyncDispose]();
  assert.equal(held().length, 6);
});
