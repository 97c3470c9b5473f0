import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QmpClient } from '#qmp';
import { IoRetry } from '../../src/vm/live/io-retry.ts';
import { QmpServer } from '../support/qmp-server.ts';
import { collect } from '../support/vm.ts';

test('V-104: a guest that waits for room on the disk is resumed, also after an attempt that failed', async (t) => {
  const got: string[] = [];
  await using server = await QmpServer.start({
    script: ({ execute, id }, peer) => {
      got.push(execute);
      if (got.length === 1) peer.refuse(id, 'GenericError', 'not now');
      else peer.answer(id, { status: 'io-error', running: false });
    },
  });
  await using qmp = await QmpClient.connect(server.path, { signal: t.signal });
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const lines: string[] = [];
  using retry = new IoRetry(() => qmp, collect(lines));
  retry.stopped();
  t.mock.timers.tick(5000);
  while (lines.length === 0) await new Promise(setImmediate);
  assert.match(lines[0] ?? '', /not now/);
  assert.deepEqual(got, ['query-status']);
  t.mock.timers.tick(5000);
  while (!got.includes('cont')) await new Promise(setImmediate);
  assert.deepEqual(got, ['query-status', 'query-status', 'cont']);
});
