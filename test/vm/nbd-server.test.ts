import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { askServer } from '../../src/vm/disks/nbd/nbd-server.ts';
import { exportInfo, greeting, nbdReply } from '../support/nbd-bytes.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';

const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(patient(20_000)) });

async function serve(t: TestContext, at: string | 0, answer: (socket: Socket) => void) {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    answer(socket);
  });
  server.listen(at === 0 ? { port: 0, host: '127.0.0.1' } : { path: at });
  await once(server, 'listening');
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { server, sockets };
}

async function peerOf(t: TestContext, answer: (socket: Socket) => void) {
  const { server } = await serve(t, 0, answer);
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
}

const bytes = 2n ** 63n;

function honest(socket: Socket): void {
  socket.write(greeting());
  socket.once('data', () => socket.write(Buffer.concat([exportInfo(bytes), nbdReply(1)])));
}

/** Sends the same again and again, as fast as it is taken. */
function flood(socket: Socket, chunk: Buffer): void {
  const send = (): void => {
    while (socket.writable && socket.write(chunk));
    socket.once('drain', send);
  };
  send();
}

test('V-47: a server is asked for the size of its export', async (t) => {
  const expected = { kind: 'known', bytes, readOnly: false };
  assert.deepEqual(await askServer(await peerOf(t, honest), 'data', soon()), expected);
  const path = join(tmpDir(t), 'nbd.sock');
  await serve(t, path, honest);
  chmodSync(path, 0o777);
  assert.deepEqual(await askServer({ path }, 'data', soon()), expected);
});

test('V-47: a server that floods, or hangs up, is known at once', async (t) => {
  const noise = await peerOf(t, (socket) => flood(socket, Buffer.alloc(65_536, 'x')));
  await assert.rejects(askServer(noise, 'data', soon()), { message: /is no NBD server$/ });
  const endless = await peerOf(t, (socket) => {
    socket.write(greeting());
    socket.once('data', () => flood(socket, Buffer.concat(Array(100).fill(exportInfo(bytes)))));
  });
  await assert.rejects(askServer(endless, 'data', soon()), { message: /is not NBD$/ });
  const rude = await peerOf(t, (socket) => void socket.end(greeting()));
  await assert.rejects(askServer(rude, 'data', soon()), { message: 'it hangs up' });
});

test('V-47: a server that says nothing more is waited for as long as the driver will, or its caller', async (t) => {
  const silent = await peerOf(t, () => {});
  const mute = await peerOf(t, (socket) => void socket.write(greeting()));
  const message = 'connected, but no answer within 5 s';
  const asked = [silent, mute].map((peer) => askServer(peer, 'data', soon()));
  const cancelled = askServer(silent, 'data', { signal: AbortSignal.abort(new Error('stop')) });
  await assert.rejects(cancelled, { message: 'stop' });
  await Promise.all(asked.map((answer) => assert.rejects(answer, { message })));
});

test('V-47: whether there is a file that is no socket is not reported', async (t) => {
  const dir = tmpDir(t);
  writeFileSync(join(dir, 'file'), '');
  for (const name of ['file', 'none', 'file/below']) {
    const path = join(dir, name);
    const message = `there is no socket ${path}`;
    await assert.rejects(askServer({ path }, 'data', soon()), { message });
  }
});

/** Lets a name lead to the one, then to the other, without end. */
const swapper = `
  import { renameSync, symlinkSync } from 'node:fs';
  const dir = process.argv[1];
  for (let turn = 0; ; turn += 1) {
    symlinkSync(turn % 2 ? 'open.sock' : 'closed.sock', dir + '/next');
    renameSync(dir + '/next', dir + '/nbd.sock');
    if (turn === 0) process.stdout.write('ready');
  }
`;

test('V-47 design-4: a socket that a VM may not connect to is not connected to, however names are swapped', async (t) => {
  const dir = tmpDir(t);
  const open = await serve(t, join(dir, 'open.sock'), honest);
  const closed = await serve(t, join(dir, 'closed.sock'), honest);
  chmodSync(join(dir, 'open.sock'), 0o777);
  chmodSync(join(dir, 'closed.sock'), 0o700);
  const child = spawn(process.execPath, ['--input-type=module', '--eval', swapper, dir]);
  const ended = once(child, 'exit');
  try {
    await once(child.stdout, 'data');
    const limit = soon();
    for (let refused = 0; refused < 100 || open.sockets.size < 100; ) {
      await askServer({ path: join(dir, 'nbd.sock') }, 'data', limit).catch((error: Error) => {
        assert.match(error.message, /chmod o\+w/);
        refused += 1;
      });
    }
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
  assert.equal(closed.sockets.size, 0);
});
