import { type ChildProcess, spawn } from 'node:child_process';
import type { Waiting } from '#spec';
import { errnoOf, HostError } from '../error.ts';
import { type BareFile, inBareRoot, inBareRootWith } from './bare-root.ts';
import { type ChildOptions, type Exit, exitOf, startChild } from './child.ts';
import { inheritNothing, type ProcessLimits, startLimited, startUndumped } from './limits.ts';
import { inEmptyNamespaces, inProcessNamespace, withNetns } from './netns.ts';
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

/**
 * Starts a program that outlives this one: own session and process group, inheriting nothing but the descriptors in
 * `stdio` (number n of the list becomes descriptor n there, /dev/null what is missing of the first three; the caller still
 * has to close its own). O_NONBLOCK is cleared on the open files that become 0, 1 and 2, for every process that shares
 * them. It leaves no core file. Resolves once the program runs; throws HostError naming it and the reason (ENOENT,
 * EACCES).
 */
export async function spawnDetached(
  options: SpawnOptions & {
    readonly stdio: readonly (number | 'ignore')[];
    /** New, empty network and IPC namespaces; descriptors from outside keep working there. */
    readonly alone?: boolean;
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
  },
): Promise<SpawnedProcess> {
  inheritNothing();
  // A core dump may contain secrets of the program.
  const limits = { core: 0, ...options.limits };
  const stdio = Array.from(
    { length: Math.max(3, options.stdio.length) },
    (_, fd) => options.stdio[fd] ?? 'ignore',
  );
  const begin = (): number => startChild(childOf(options, stdio));
  // The files of the process that are needed to begin are not to be seen in a bare root: it is entered last.
  const bare = (): number => {
    if (options.bareFiles !== undefined) return inBareRootWith(options.bareFiles, begin);
    return options.bareRoot === true ? inBareRoot(begin) : begin();
  };
  const whole = (): number => (options.endsWhole === true ? inProcessNamespace(bare) : bare());
  const pid = startUndumped(() =>
    startLimited(limits, () => (options.alone === true ? inEmptyNamespaces(whole) : whole())),
  );
  // Read before the event loop can reap it: even a program that has ended already still is a zombie here.
  const identity = identifyChild(pid);
  const exit = exitOf(pid);
  if (options.yields === true) yieldsToOthers(pid);
  if (identity === undefined) {
    throw new HostError(`${options.program} was started, but its process was not found`);
  }
  return { identity, exit };
}

function childOf(
  { program, args, env = {}, cwd, uid, gid }: SpawnOptions,
  stdio: readonly (number | 'ignore')[],
): ChildOptions {
  const user = uid === undefined ? undefined : { uid, gid: gid ?? uid };
  return { program, args, env, cwd, user, stdio };
}

function start(
  { program, args, env = {}, cwd, uid, gid }: SpawnOptions,
  stdio: (number | 'ignore' | 'pipe')[],
): ChildProcess {
  try {
    return spawn(program, [...args], {
      stdio,
      detached: true,
      env: { ...env },
      shell: false,
      ...(cwd !== undefined && { cwd }),
      ...(uid !== undefined && { uid }),
      ...(gid !== undefined && { gid }),
    });
  } catch (error) {
    // Some failures (EPERM, E2BIG) are thrown, others (ENOENT) are emitted as an event.
    throw spawnError(program, error);
  }
}

function started(child: ChildProcess, program: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) => reject(spawnError(program, error)));
  });
}

function spawnError(program: string, error: unknown): HostError {
  const errno = errnoOf(error);
  const reason = errno ?? (error instanceof Error ? error.message : String(error));
  return new HostError(`starting ${program}: ${reason}`, { cause: error, errno });
}

export interface RunOptions extends SpawnOptions {
  readonly stdin?: string | Uint8Array;
  /** Maximum for each of stdout and stderr; more kills the program and is an error. 1 MiB when left out. */
  readonly maxOutputBytes?: number;
  /** Path of the network namespace that the program runs in; this process's own when left out. */
  readonly netns?: string;
}

export interface RunResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

const mebibyte = 1 << 20;

/**
 * Runs a program to its end and returns its output; an exit code is a result, not an error. When the signal aborts or
 * the output exceeds its limit, the program and its process group are killed. Throws HostError where it did not start or
 * was killed; after an abort the cause is the signal's reason.
 */
export async function runProgram(options: RunOptions, waiting: Waiting): Promise<RunResult> {
  const { program, netns, maxOutputBytes = mebibyte } = options;
  if (waiting.signal.aborted) throw stopped(program, waiting);
  const env = { PATH: process.env.PATH ?? '', LC_ALL: 'C' };
  const begin = (): ChildProcess => start({ env, ...options }, ['pipe', 'pipe', 'pipe']);
  const child = netns === undefined ? begin() : withNetns(netns, begin);
  const closed = new Promise<Exit>((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  await started(child, program);
  let failure: HostError | undefined;
  const stop = (error: HostError): void => {
    failure ??= error;
    killGroup(child);
  };
  const onAbort = (): void => stop(stopped(program, waiting));
  waiting.signal.addEventListener('abort', onAbort, { once: true });
  if (waiting.signal.aborted) onAbort();
  const tooMuch = (): void =>
    stop(new HostError(`${program} wrote more than ${maxOutputBytes} bytes`));
  const stdout = collect(child.stdout, maxOutputBytes, tooMuch);
  const stderr = collect(child.stderr, maxOutputBytes, tooMuch);
  // A program may end without reading its input; its exit code reports that.
  child.stdin?.on('error', () => undefined).end(options.stdin);
  const { code, signal } = await closed;
  waiting.signal.removeEventListener('abort', onAbort);
  if (failure !== undefined) throw failure;
  return { code, signal, stdout: stdout(), stderr: stderr() };
}

function stopped(program: string, { signal }: Waiting): HostError {
  const cause: unknown = signal.reason;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new HostError(`${program} was stopped: ${reason}`, { cause });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // The group has ended; only a process that left it can still hold the pipes, and its output is not needed.
  }
  child.stdout?.destroy();
  child.stderr?.destroy();
}

function collect(
  stream: ChildProcess['stdout'],
  maxBytes: number,
  tooMuch: () => void,
): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream?.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > maxBytes) tooMuch();
    else chunks.push(chunk);
  });
  return () => Buffer.concat(chunks).toString('utf8');
}
