import { runProgram, type Waiting } from '#host';
import { NetError } from './error.ts';

/** Hands a script to nft; all of it happens or nothing. */
export async function applyRuleset(nft: string, script: string, waiting: Waiting): Promise<void> {
  const result = await run(nft, script, waiting);
  if (result.code === 0) return;
  const said = result.stderr.trim().split('\n').slice(0, 3).join(' ');
  throw new NetError('rules', `nft refused the rules: ${said || `exit code ${result.code}`}`);
}

async function run(
  nft: string,
  script: string,
  waiting: Waiting,
): Promise<Awaited<ReturnType<typeof runProgram>>> {
  const deadline = AbortSignal.any([waiting.signal, AbortSignal.timeout(deadlineMs)]);
  try {
    return await runProgram(
      { program: nft, args: ['-f', '-'], stdin: script },
      { signal: deadline },
    );
  } catch (cause) {
    throw new NetError('rules', `running ${nft} to apply the rules failed`, { cause });
  }
}

// nft waits for other users of the netfilter tables; 15 ms is usual.
const deadlineMs = 10_000;
