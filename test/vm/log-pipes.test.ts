import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { releaseLogPipes } from '../../src/vm/logs/log-sink.ts';
import { tmpDir } from '../support/tmp.ts';

test('P-36: a reader that waits for a first writer is let go', async (t) => {
  const allocDir = tmpDir(t);
  const pipe = join(allocDir, 'fifo');
  execFileSync('mkfifo', [pipe]);
  const reader = spawn('cat', [pipe], { stdio: 'ignore' });
  t.after(() => reader.kill());
  const ended = once(reader, 'exit', { signal: AbortSignal.timeout(5000) });
  // Until cat has come to its open call there is no reader to let go.
  const again = setInterval(() => releaseLogPipes([pipe], allocDir), 5);
  t.after(() => clearInterval(again));
  assert.deepEqual(await ended, [0, null]);
});

test('P-36: where no reader waits, or something else is, nothing happens', (t) => {
  const folder = tmpDir(t);
  const [pipe, file, link] = ['pipe', 'file', 'link'].map((name) => join(folder, name));
  assert.ok(pipe && file && link);
  execFileSync('mkfifo', [pipe]);
  writeFileSync(file, 'kept');
  symlinkSync(file, link);
  releaseLogPipes([pipe, file, link, '/dev/null', folder, join(folder, 'missing'), ''], folder);
  releaseLogPipes([pipe], '');
  assert.equal(readFileSync(file, 'utf8'), 'kept');
});
