import { makeSeedImage, type SeedImage, type SeedRequest } from '#cloudinit';
import { askWorker, KeyedQueue, type WorkerProgram } from '#host';
import type { Waiting } from '#spec';

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
  return seeds.run('', async () => {
    const answer = await askWorker(program, request, limits, waiting);
    return answer as SeedImage; // sent by our own worker
  });
}
