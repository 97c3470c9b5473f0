import { HostError } from '../error.ts';
import { type BareFile, inBareRoot, inBareRootWith } from './bare-root.ts';
import { type ChildOptions, type Exit, exitOf, startChild } from './child.ts';
import {
  closeEmpty,
  type EmptyNamespaces,
  inEmptyNamespaces,
  openEmpty,
} from './empty-namespaces.ts';
import { inheritNothing, type ProcessLimits, startUndumped } from './limits.ts';
import { inProcessNamespace } from './netns.ts';
import { yieldsToOthers } from './priority.ts';
import { identifyChild, type ProcessIdentity } from './process.ts';

export interface SpawnedProcess {
  readonly identity: ProcessIdentity;
  /** Settles when the process ends while this one is running. Never rejects. */
  readonly exit: Promise<Exit>;
}

export interface SpawnOptions {
  /** Absolute path. */
  readonly program: string;
  readonly args: readonly string[];
  /** The whole environment. When left out: empty for `spawnDetached`, PATH and LC_ALL=C for `runProgram`. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Set before the program begins; supplementary groups are dropped with it. */
  readonly uid?: number;
  readonly gid?: number;
}

interface DetachedOptions extends SpawnOptions {
  readonly stdio: readonly (number | 'ignore')[];
  /** In new, empty network and IPC namespaces, or in those; descriptors from outside keep working there. */
  readonly alone?: boolean | EmptyNamespaces;
  /** Gets processor time after others, with all that it starts. */
  readonly yields?: boolean;
  /** All that it starts ends with it. */
  readonly endsWhole?: boolean;
  /** Sees no file of the host but programs and libraries; a program that needs others fails. */
  readonly bareRoot?: boolean;
  /** Beside them it sees these files, by which it has a bare root of its own. */
  readonly bareFiles?: readonly BareFile[];
  /** Soft limits, which the program may raise again; `limitProcess` sets hard ones. */
  readonly limits?: ProcessLimits;
}

/**
 * Starts a program that outlives this one: own session and process group, inheriting nothing but the descriptors in
 * `stdio` (number n of the list becomes descriptor n there, /dev/null what is missing of the first three; the caller still
 * has to close its own). O_NONBLOCK is cleared on the open files that become 0, 1 and 2, for every process that shares
 * them. It leaves no core file. Resolves once the program runs; throws HostError naming it and the reason (ENOENT,
 * EACCES).
 */
export async function spawnDetached(options: DetachedOptions): Promise<SpawnedProcess> {
  const { alone = false } = options;
  if (alone !== true)
    return start(options, (begin) => (alone ? inEmptyNamespaces(alone, begin) : begin()));
  const empty = await openEmpty();
  try {
    return start(options, (begin) => inEmptyNamespaces(empty, begin));
  } finally {
    if (empty !== undefined) closeEmpty(empty);
  }
}

function start(options: DetachedOptions, where: (begin: () => number) => number): SpawnedProcess {
  inheritNothing();
  const stdio = Array.from(
    { length: Math.max(3, options.stdio.length) },
    (_, fd) => options.stdio[fd] ?? 'ignore',
  );
  // A core dump may contain secrets of the program.
  const limits = { core: 0, ...options.limits };
  const begin = (): number => startChild({ ...childOf(options, stdio), limits });
  // The files of the process that are needed to begin are not to be seen in a bare root: it is entered last.
  const bare = (): number => {
    if (options.bareFiles !== undefined) return inBareRootWith(options.bareFiles, begin);
    return options.bareRoot === true ? inBareRoot(begin) : begin();
  };
  const whole = (): number => (options.endsWhole === true ? inProcessNamespace(bare) : bare());
  const pid = startUndumped(() => where(whole));
  // Read before the event loop can reap it: even a program that has ended already still is a zombie here.
  const identity = identifyChild(pid);
  const exit = exitOf(pid);
  if (options.yields === true) yieldsToOthers(pid);
  if (identity === undefined) {
    throw new HostError(`${options.program} was started, but its process was not found`);
  }
  return { identity, exit };
}

/** What is started with these options, and these as its first descriptors. */
export function childOf(
  { program, args, env = {}, cwd, uid, gid }: SpawnOptions,
  stdio: readonly (number | 'ignore')[],
): ChildOptions {
  const user = uid === undefined ? undefined : { uid, gid: gid ?? uid };
  return { program, args, env, cwd, user, stdio };
}
