import assert from 'node:assert/strict';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { test } from 'node:test';
import { identify } from '#host';
import { QmpClient } from '#qmp';
import { Figures } from '../../src/vm/figures/figures.ts';
import { QmpServer } from '../support/qmp-server.ts';
import { exampleRecord } from '../support/vm-record.ts';

test('V-101 V-103: a sample reads one file of each process that has used CPU time; memory and QEMU are asked once in a while', async (t) => {
  const identity = identify(process.pid);
  assert.ok(identity !== undefined);
  await using server = await QmpServer.start({
    script: ({ execute, id }, peer) => peer.answer(id, execute === 'query-blockstats' ? [] : {}),
  });
  await using qmp = await QmpClient.connect(server.path, { signal: t.signal });
  const commands = () => server.peer.received.map(({ execute }) => execute);
  let nowMs = 10_000;
  t.mock.method(performance, 'now', () => nowMs);
  const options = {
    record: exampleRecord,
    identity,
    helpers: [identity, identity],
    qmp: () => qmp,
  };
  const ended = new AbortController();
  t.after(() => ended.abort());
  const figures = new Figures(options, ended);
  await figures.all({ signal: t.signal });
  const asked = commands();
  assert.deepEqual(asked, ['qmp_capabilities', 'qom-get', 'query-blockstats']);

  nowMs += 1500;
  const opened = t.mock.method(fs, 'openSync');
  const read = t.mock.method(fs, 'readSync');
  const whole = t.mock.method(fs, 'readFileSync');
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
  const samples = 50;
  for (let sample = 0; sample < samples; sample += 1) {
    assert.ok((await figures.usage({ signal: t.signal })).rssBytes > 0);
  }
  assert.equal(opened.mock.callCount(), 0);
  assert.equal(read.mock.callCount(), 3 * samples);
  assert.equal(whole.mock.callCount(), 0);
  assert.deepEqual(commands(), asked, 'answers are kept');
  let before = read.mock.callCount();
  nowMs += 500;
  await figures.usage({ signal: t.signal });
  assert.deepEqual(commands(), asked);
  assert.equal(read.mock.callCount() - before, 3 + 1, 'the memory of QEMU for two seconds');
  before = read.mock.callCount();
  nowMs += 3000;
  await figures.usage({ signal: t.signal });
  assert.deepEqual(commands(), [...asked, 'qom-get'], 'for five seconds');
  assert.equal(read.mock.callCount() - before, 2 * 3, 'as the memory of the others');
});
