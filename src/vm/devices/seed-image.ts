import { makeSeedImage, type SeedImage, type SeedRequest } from '#cloudinit';
import { askWorker, HostError, KeyedQueue, type WorkerProgram } from '#host';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';

const program: WorkerProgram = {
  url: () => new URL('./seed-worker.ts', import.meta.url),
  asset: 'seed-worker.cjs',
};

/** One MiB of variables of a few bytes takes 0.3 s. */
const limits = { ms: 20_000, heapMiB: 128 };

/** Up to this size a seed is created within 20 ms, whatever is in it. */
const smallBytes = 64 * 1024;

const seeds = new KeyedQueue();

/** The disc for a request, with notes on what was left out; a large one is created in a worker thread. */
export function seedImage(
  request: SeedRequest,
  guestBytes: number,
  waiting: Waiting,
): Promise<SeedImage> {
  if (guestBytes <= smallBytes) return Promise.resolve(makeSeedImage(request));
  return seeds.run('', () => imageInThread(request, waiting));
}

async function imageInThread(request: SeedRequest, waiting: Waiting): Promise<SeedImage> {
  try {
    return (await askWorker(program, request, limits, waiting)) as SeedImage; // sent by our own worker
  } catch (error) {
    if (!(error instanceof HostError) || error.code !== 'worker-limit') throw error;
    throw new VmError(
      'host',
      `the guest's seed could not be created, because ${error.message}: give the task fewer or shorter variables (env, templates with env = true) and cmds`,
      // The host may just have been busy.
      { cause: error, recoverable: true },
    );
  }
}
