import { endsWithin, type RunOptions, type RunResult, runProgram, within } from '#host';
import { RuleCommits } from '#netlink';
import type { Waiting } from '#spec';
import { asNetError, NetError } from '../model/error.ts';

// nft waits for other users of the netfilter tables; 15 ms is typical.
const deadlineMs = 10_000;
const lookMs = 1;
// Hosts of a big cluster have tens of thousands of rules; more than this is not read.
const maxListedBytes = 4 * 1024 * 1024;

/** The nft program, and the network namespace whose rules it works on: this process's own when left out. */
export interface Nft {
  /** Absolute path. */
  readonly nft: string;
  readonly netns?: string;
}

/**
 * One run of nft, and one transaction of the kernel, which is in force when this returns. Throws NetError with the first
 * lines of what nft reported.
 */
export async function applyScript(script: string, nft: Nft, waiting: Waiting): Promise<void> {
  using commits = nft.netns === undefined ? openCommits() : undefined;
  let pid: number | undefined;
  const onStart = (started: number): void => {
    pid = started;
  };
  const ended = checked(run({ args: ['-f', '-'], stdin: script, onStart }, nft, waiting));
  // nft, as it ends, waits until no processor uses what it has replaced: often longer than all the rest takes.
  while (commits !== undefined && !(await endsWithin(ended, lookMs))) {
    if (pid === undefined || !commits.has(pid)) continue;
    ended.catch(() => {});
    return;
  }
  await ended;
}

async function checked(running: Promise<RunResult>): Promise<void> {
  const { code, stderr } = await running;
  if (code !== 0) throw new NetError('host', `nft refused the rules: ${reason(code, stderr)}`);
}

/** Undefined where there are none to listen to: the end of nft is waited for then. */
function openCommits(): RuleCommits | undefined {
  try {
    return RuleCommits.open();
  } catch {
    return undefined;
  }
}

/** What `nft list` prints of an object, without counters and elements of sets. Throws NetError. */
export async function list(
  what: string,
  object: readonly string[],
  nft: Nft,
  waiting: Waiting,
): Promise<string> {
  const args = ['-s', '-t', 'list', ...object];
  const { code, stdout, stderr } = await run({ args }, nft, waiting);
  if (code === 0) return stdout;
  throw new NetError('host', `nft refused to list ${what}: ${reason(code, stderr)}`);
}

/** What `nft list` prints of a set or map with its elements. Throws NetError. */
export async function listElements(
  what: string,
  object: readonly string[],
  nft: Nft,
  waiting: Waiting,
): Promise<string> {
  const { code, stdout, stderr } = await run({ args: ['-s', 'list', ...object] }, nft, waiting);
  if (code === 0) return stdout;
  throw new NetError('host', `nft refused to list ${what}: ${reason(code, stderr)}`);
}

async function run(
  how: Pick<RunOptions, 'args' | 'stdin' | 'onStart'>,
  { nft, netns }: Nft,
  waiting: Waiting,
): Promise<RunResult> {
  using limited = within(deadlineMs, waiting);
  const program = { program: nft, ...how, maxOutputBytes: maxListedBytes };
  const there = netns === undefined ? {} : { netns };
  return await asNetError(`running ${nft} ${how.args.join(' ')} failed`, () =>
    runProgram({ ...program, ...there }, limited),
  );
}

function reason(code: number | null, stderr: string): string {
  return stderr.trim().split('\n').slice(0, 3).join(' ') || `exit code ${code}`;
}
