import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { askWorker, type WorkerProgram } from '#host';
import { tmpDir } from '../support/tmp.ts';

const waiting = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(20_000) });
const limits = { ms: 10_000, heapMiB: 32 };

function program(t: TestContext, body: string): WorkerProgram {
  const path = join(tmpDir(t), 'worker.mjs');
  writeFileSync(path, `import { parentPort, workerData } from 'node:worker_threads';\n${body}`);
  return { url: () => pathToFileURL(path), asset: '' };
}

test('worker: the data goes in and one answer comes out', async (t) => {
  const double = program(t, 'parentPort.postMessage(workerData * 2)');
  assert.equal(await askWorker(double, 21, limits, waiting()), 42);
});

test('worker: of the environment it has nothing but where compiled sources are kept', async (t) => {
  const environment = program(t, 'parentPort.postMessage(Object.keys(process.env))');
  const ours = ['NODE_COMPILE_CACHE'].filter((key) => key in process.env);
  assert.deepEqual(await askWorker(environment, 0, limits, waiting()), ours);
});

test('worker: a program that takes too long is ended, and the error is known by its code', async (t) => {
  const endless = program(t, 'for (;;);');
  await assert.rejects(askWorker(endless, 0, { ...limits, ms: 100 }, waiting()), {
    name: 'HostError',
    code: 'worker-limit',
    message: 'it takes more than 100 ms',
  });
});

test('worker: a program that takes too much memory is ended, and nothing else of the process', async (t) => {
  const greedy = program(t, 'const all = []; for (;;) all.push(new Array(100_000).fill(all));');
  await assert.rejects(askWorker(greedy, 0, limits, waiting()), {
    name: 'HostError',
    code: 'worker-limit',
    message: 'it takes more than 32 MiB of memory',
  });
});

test('worker: a program that throws or ends without an answer is an error that is no limit', async (t) => {
  const throwing = program(t, "throw new RangeError('broken')");
  await assert.rejects(askWorker(throwing, 0, limits, waiting()), { message: 'broken' });
  const silent = program(t, '');
  await assert.rejects(askWorker(silent, 0, limits, waiting()), {
    message: 'a worker ended with 0 and no answer',
  });
});

test("worker: the caller's signal ends it with the signal's own reason", async (t) => {
  const endless = program(t, 'for (;;);');
  const reason = new Error('task destroyed');
  const early = { signal: AbortSignal.abort(reason) };
  await assert.rejects(askWorker(endless, 0, limits, early), reason);
  const caller = new AbortController();
  const asked = askWorker(endless, 0, limits, caller);
  setImmediate(() => caller.abort(reason));
  await assert.rejects(asked, reason);
});
