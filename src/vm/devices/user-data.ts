import { checkSeedText, isQuickToCheck, type SeedText } from '#cloudinit';
import { askWorker, HostError, KeyedQueue, type WorkerProgram } from '#host';
import type { Waiting } from '#spec';
import { VmError } from '../error.ts';

const program: WorkerProgram = {
  url: () => new URL('./user-data-worker.ts', import.meta.url),
  asset: 'user-data-worker.cjs',
};

/**
 * One MiB of hand-written user data takes 0.1 to 1 s. cloud-init's own parser is slower by a factor of ten and more,
 * so what takes longer here would delay the guest for minutes.
 */
const limits = { ms: 2000, heapMiB: 96 };

const checks = new KeyedQueue();

/**
 * Problems that would keep cloud-init from applying this text, each with its key. A job's author can write a text that takes hours
 * to parse: where that is possible it is parsed in a thread with limits, one at a time, so that it can exhaust neither
 * the event loop nor the memory of this process. Throws VmError where the check is aborted.
 */
export async function textProblems(text: SeedText, waiting: Waiting): Promise<readonly string[]> {
  const problems = isQuickToCheck(text.data)
    ? checkSeedText(text)
    : await checks.run('', () => checkInThread(text, waiting));
  return problems.map((problem) => `${text.key}: ${problem}`);
}

async function checkInThread(text: SeedText, waiting: Waiting): Promise<readonly string[]> {
  try {
    const problems = await askWorker(program, text, limits, waiting);
    return Array.isArray(problems) ? problems.map(String) : [];
  } catch (error) {
    if (!(error instanceof HostError) || error.code !== 'worker-limit') throw error;
    throw new VmError(
      'job',
      `${text.key}: the check was aborted, because ${error.message}; cloud-init would take far longer: ` +
        'replace its YAML aliases (*) by what they stand for, or move parts of it into a file that the guest fetches',
      // The host may just have been busy.
      { cause: error, recoverable: true },
    );
  }
}
