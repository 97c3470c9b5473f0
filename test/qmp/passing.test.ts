import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { passOn } from '../../src/qmp/passing.ts';
import { tmpDir } from '../support/tmp.ts';
import { soon } from '../support/vm.ts';

test('a file is passed on after what was written before, and no listener stays on the socket', async (t) => {
  const path = join(tmpDir(t), 'peer.sock');
  const server = createServer();
  t.after(() => server.close());
  server.listen(path);
  await once(server, 'listening');
  const socket = connect(path);
  t.after(() => socket.destroy());
  const [peer] = await once(server, 'connection');
  const listeners = (): readonly number[] =>
    ['close', 'error'].map((event) => socket.listenerCount(event));
  const before = listeners();
  socket.write(Buffer.alloc(4 * 1024 * 1024));
  const waiting: number[] = [];
  const passed = passOn(
    socket,
    Buffer.from('{}'),
    () => {
      waiting.push(socket.writableLength);
      return true;
    },
    soon(),
  );
  assert.deepEqual(waiting, []);
  peer.resume();
  await passed;
  assert.deepEqual(waiting, [0]);
  assert.deepEqual(listeners(), before);
});
