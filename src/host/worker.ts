import { getAsset, isSea } from 'node:sea';
import { type ResourceLimits, Worker } from 'node:worker_threads';
import type { Waiting } from '#spec';
import { errnoOf, HostError } from './error.ts';
import { within } from './waiting.ts';

/** A program for a thread of its own: it reads its workerData and answers once, on its parentPort. */
export interface WorkerProgram {
  /** Its source file; not called inside the single executable, which has no files. */
  readonly url: () => URL;
  /** Its bundle inside the single executable. */
  readonly asset: string;
}

export interface WorkerLimits {
  readonly ms: number;
  readonly heapMiB: number;
}

/** Limits for every worker: its code, the young part of its heap, and its stack. */
const codeMiB = 16;
const youngMiB = 8;
const stackMiB = 4;

/**
 * Runs a program on data that may take any time and memory, and returns its answer. The thread is used once and is
 * terminated at any point of its work. Throws HostError `worker-limit` where it passes its limits; rejects
 * with the signal's reason.
 */
export async function askWorker(
  program: WorkerProgram,
  data: unknown,
  limits: WorkerLimits,
  { signal }: Waiting,
): Promise<unknown> {
  signal.throwIfAborted();
  const worker = startWorker(program, data, limits);
  using limited = within(limits.ms, { signal });
  try {
    return await answerOf(worker, limited.signal);
  } catch (error) {
    signal.throwIfAborted();
    if (limited.signal.aborted) throw beyondLimit(`${limits.ms} ms`);
    if (errnoOf(error) === 'ERR_WORKER_OUT_OF_MEMORY') {
      throw beyondLimit(`${limits.heapMiB} MiB of memory`);
    }
    throw error;
  } finally {
    await worker.terminate();
  }
}

function startWorker({ url, asset }: WorkerProgram, data: unknown, limits: WorkerLimits): Worker {
  const resourceLimits: ResourceLimits = {
    maxOldGenerationSizeMb: limits.heapMiB,
    maxYoungGenerationSizeMb: youngMiB,
    codeRangeSizeMb: codeMiB,
    stackSizeMb: stackMiB,
  };
  // Standard output belongs to the agent, which reads one line from it.
  const options = { workerData: data, resourceLimits, stdout: true, stderr: true, env: env() };
  return isSea()
    ? new Worker(getAsset(asset, 'utf8'), { ...options, eval: true })
    : new Worker(url(), options);
}

/** Of our environment only the place of compiled sources, without which a thread compiles them itself: 200 ms, not 60. */
function env(): NodeJS.ProcessEnv {
  const { NODE_COMPILE_CACHE } = process.env;
  return NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE };
}

function answerOf(worker: Worker, signal: AbortSignal): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  worker.once('message', resolve);
  worker.once('error', reject);
  worker.once('exit', (code) => reject(new Error(`a worker ended with ${code} and no answer`)));
  return promise;
}

function beyondLimit(limit: string): HostError {
  return new HostError(`it takes more than ${limit}`, { code: 'worker-limit' });
}
