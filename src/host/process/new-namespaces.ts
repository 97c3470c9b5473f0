import { readlinkSync } from 'node:fs';
import type { Waiting } from '#spec';
import { HostError, hostError } from '../error.ts';
import { closeFd } from '../files/descriptor.ts';
import { pipeTo } from '../files/pipe.ts';
import { pause } from '../waiting.ts';
import { exitOf, startChild } from './child.ts';
import { inheritNothing, startUndumped } from './limits.ts';
import { identifyChild, pidfdSignal } from './process.ts';
import { findProgram } from './programs.ts';

/** Options of util-linux's and of BusyBox's `unshare`. */
const options = { ipc: '-i', net: '-n', user: '-U' } as const;
type NewKind = keyof typeof options;

const sigkill = 9;

/** The program that makes namespaces for this process, which has threads or must not wait for the kernel's locks. */
export function unshareProgram(): string | undefined {
  return findProgram('unshare');
}

/** What `open` gets of the pid of a process in new namespaces of these kinds; they end with it. Throws HostError. */
export async function openNew<T>(
  kinds: readonly [NewKind, ...NewKind[]],
  open: (pid: number) => T,
  waiting: Waiting,
): Promise<T> {
  const what = `making namespaces (${kinds.join(', ')})`;
  const program = unshareProgram();
  if (program === undefined)
    throw new HostError(`${what}: there is no unshare; install util-linux`);
  waiting.signal.throwIfAborted();
  // It ends with this process as well: it reads a pipe whose other end is here.
  using ends = new DisposableStack();
  const { read, write } = pipeTo('write');
  ends.adopt(write, closeFd);
  const pid = startHolder(program, kinds, read);
  const identity = identifyChild(pid);
  void exitOf(pid);
  try {
    // They change all at once.
    const own = readlinkSync(`/proc/self/ns/${kinds[0]}`);
    while (readlinkSync(`/proc/${pid}/ns/${kinds[0]}`) === own) await pause(1, waiting);
    return open(pid);
  } catch (error) {
    waiting.signal.throwIfAborted();
    throw hostError(what, error);
  } finally {
    if (identity !== undefined) pidfdSignal(identity, sigkill);
  }
}

function startHolder(program: string, kinds: readonly NewKind[], stdin: number): number {
  // Without a path it would be looked for by attempts to execute it.
  const args = [...kinds.map((kind) => options[kind]), findProgram('cat') ?? 'cat'];
  const env = { PATH: process.env.PATH ?? '/usr/bin:/bin' };
  inheritNothing();
  try {
    return startUndumped(() =>
      startChild({ program, args, env, limits: { core: 0 }, stdio: [stdin, 'ignore', 'ignore'] }),
    );
  } finally {
    closeFd(stdin);
  }
}
