import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify } from '#host';
import { argumentsOf } from '../../src/host/process/arguments.ts';
import { tmpDir } from '../support/tmp.ts';

/** Longer than a read of arguments may take. */
const busyMs = 700;

/** Has all threads of Node's pool wait, for the writer of a pipe each. Returns what ends that. */
function occupyThreads(t: TestContext): () => Promise<void> {
  const dir = tmpDir(t);
  const threads = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
  const pipes = Array.from({ length: threads }, (_, at) => `${dir}/${at}`);
  execFileSync('mkfifo', pipes);
  const opened = pipes.map((path) => open(path));
  return async () => {
    const writers = pipes.map((path) => openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
    for (const file of await Promise.all(opened)) await file.close();
    for (const fd of writers) closeSync(fd);
  };
}

test('the arguments of a process are read as soon as a thread is free, however late that is', async (t) => {
  const waiting = { signal: new AbortController().signal };
  const own = identify(process.pid);
  assert.ok(own);
  const leave = occupyThreads(t);
  // As many as make a search fail where all of them hang, and one more.
  const reading = [1, 2, 3].map(() => argumentsOf(own, waiting));
  await sleep(busyMs);
  await leave();
  for (const read of await Promise.all(reading)) assert.equal(read[0], process.argv0);
});

test('long arguments are read whole, and those of a process that has ended are none', async (t) => {
  const waiting = { signal: new AbortController().signal };
  const args = ['-c', 'read _', 'é'.repeat(60_000), 'last'];
  const child = spawn('sh', args, { stdio: ['pipe', 'ignore', 'ignore'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child, 'spawn');
  const identity = identify(child.pid ?? 0);
  assert.ok(identity);
  assert.deepEqual(await argumentsOf(identity, waiting), ['sh', ...args, '']);
  child.stdin.end();
  await once(child, 'exit');
  assert.deepEqual(await argumentsOf(identity, waiting), ['']);
});
