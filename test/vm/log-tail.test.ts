import assert from 'node:assert/strict';
import { appendFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lastMessages, readTail } from '../../src/vm/logs/log-tail.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';

test('of a file with a hole of gigabytes in front, only what is behind it is read', (t) => {
  const path = join(tmpDir(t), 'log');
  writeFileSync(path, '');
  truncateSync(path, 3 * 2 ** 30);
  appendFileSync(path, 'the end\n');
  const begun = performance.now();
  assert.match(readTail(path, 64 * 1024).toString(), /\0*the end\n$/);
  assert.equal(lastMessages(path), 'the end');
  assert.ok(performance.now() - begun < patient(1000));
});

test('never more than asked for is read', (t) => {
  const path = join(tmpDir(t), 'log');
  writeFileSync(path, 'x'.repeat(100_000));
  assert.equal(readTail(path, 1000).length, 1000);
  writeFileSync(path, 'short');
  assert.equal(readTail(path, 1000).toString(), 'short');
  writeFileSync(path, '');
  assert.equal(readTail(path, 1000).length, 0);
});

test("QEMU's last messages are the last five lines, and none where there is no file", (t) => {
  const path = join(tmpDir(t), 'log');
  assert.equal(lastMessages(path), '');
  writeFileSync(path, Array.from({ length: 20 }, (_, index) => `line ${index}\n`).join(''));
  assert.equal(lastMessages(path), 'line 15\nline 16\nline 17\nline 18\nline 19');
  appendFileSync(path, "qemu: -mon x: warning: '-mon' is deprecated\n");
  assert.match(lastMessages(path), /line 19$/);
  assert.throws(() => readTail(join(path, 'below'), 10), { name: 'HostError' });
});
