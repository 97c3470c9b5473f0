import { makeSeedImage, type SeedImage, type SeedRequest } from '#cloudinit';
import { askWorker, KeyedQueue, type WorkerProgram } from '#host';
import type { Waiting } from '#spec';

const program: WorkerProgram = {
  url: () => new URL('./seed-worker.ts', import.meta.url),
  asset: 'seed-worker.cjs',
};

/** One MiB of variables of a few bytes takes 0.3 s. */
const limits = { ms: 20_000, heapMiB: 128 };

/** Up to this a seed is made in 20 ms, whatever is in it. */
const smallBytes = 64 * 1024;

const seeds = new KeyedQueue();

/** The disc that a request makes, and what was left out of it: made aside where that takes its time. */
export function seedImage(
  request: SeedRequest,
  guestBytes: number,
  waiting: Waiting,
): Promise<SeedImage> {
  if (guestBytes <= smallBytes) return Promise.resolve(makeSeedImage(request));
  return seeds.run('', async () => {
    const answer = await askWorker(program, request, limits, waiting);
    return answer as SeedImage; // our own program's
  });
}
