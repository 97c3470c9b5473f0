import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { QmpClient } from '../../src/qmp/index.ts';
import { patient } from '../support/patience.ts';
import { greeting, QmpServer } from '../support/qmp-server.ts';

const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(patient(5000)) });
const status = { status: 'prelaunch', running: false } as const;

test('the first command is there before the greeting, behind the negotiation', async () => {
  await using server = await QmpServer.start({
    greet: false,
    script: (command, peer) => peer.answer(command.id, status),
  });
  const pending = QmpClient.connectWith(server.path, ['query-status', {}], soon());
  while ((server.peers[0]?.received.length ?? 0) < 2) await sleep(1);
  assert.deepEqual(
    server.peer.received.map(({ execute }) => execute),
    ['qmp_capabilities', 'query-status'],
  );
  server.peer.raw(greeting);
  const { qmp, answer } = await pending;
  await using _ = qmp;
  assert.deepEqual(answer, status);
});

test('a first command that is refused ends the session with its error', async () => {
  await using server = await QmpServer.start({
    script: (command, peer) => peer.refuse(command.id, 'GenericError', 'not now'),
  });
  await assert.rejects(QmpClient.connectWith(server.path, ['query-status', {}], soon()), {
    name: 'QmpError',
    code: 'command',
    message: /not now/,
  });
  while (!server.peer.socket.destroyed && !server.peer.socket.readableEnded) await sleep(1);
});

test('a monitor that goes away in the beginning is an error once', async () => {
  await using server = await QmpServer.start({ script: (_, peer) => peer.socket.end() });
  await assert.rejects(QmpClient.connectWith(server.path, ['query-status', {}], soon()), {
    code: 'closed',
  });
});
