import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ControlSocket } from '../../src/vm/control/control-socket.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect } from '../support/vm.ts';

/** What a VM answers to bytes that come in pieces, and what it was asked to do. */
async function answersTo(
  t: TestContext,
  pieces: readonly (string | Buffer)[],
): Promise<{ readonly answer: unknown; readonly served: readonly unknown[] }> {
  const path = join(tmpDir(t), 'control.sock');
  const served: unknown[] = [];
  const serve = async (request: unknown): Promise<string> => {
    served.push(request);
    return 'saved';
  };
  using _control = ControlSocket.open(path, serve, collect([]));
  const socket = connect({ path, allowHalfOpen: true });
  t.after(() => socket.destroy());
  // What is sent after the answer may be refused.
  socket.on('error', () => {});
  await once(socket, 'connect');
  for (const piece of pieces) await new Promise((resolve) => socket.write(piece, resolve));
  let text = '';
  for await (const chunk of socket) text += chunk;
  return { answer: JSON.parse(text), served };
}

const request = { command: 'screenshot', path: '/ä.png' };

test('a request is one line, in whatever pieces it comes', async (t) => {
  const bytes = Buffer.from(`${JSON.stringify(request)}\nmore`);
  const pieces = [...bytes].map((byte) => Buffer.from([byte]));
  const { answer, served } = await answersTo(t, pieces);
  assert.deepEqual(answer, { kind: 'done', text: 'saved' });
  assert.deepEqual(served, [request]);
});

test('a line that is longer than any request is refused before it has come to its end', async (t) => {
  const { answer, served } = await answersTo(t, Array(64).fill('x'.repeat(2 ** 16)));
  assert.deepEqual(answer, { kind: 'error', text: 'a request has at most 65536 bytes' });
  assert.deepEqual(served, []);
});
