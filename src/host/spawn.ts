import { type ChildProcess, spawn } from 'node:child_process';
import { inBareRoot } from './bare-root.ts';
import { errnoOf, HostError } from './error.ts';
import { inheritNothing, type ProcessLimits, startLimited, startUndumped } from './limits.ts';
import { inEmptyNamespaces } from './netns.ts';
import { identifyChild, type ProcessIdentity } from './process.ts';
import type { Waiting } from './waiting.ts';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface SpawnedProcess {
  readonly identity: ProcessIdentity;
  /** Settles when the process ends, as long as this process lives. Never rejects. */
  readonly exit: Promise<Exit>;
}

export interface SpawnOptions {
  /** Absolute path. */
  readonly program: string;
  readonly args: readonly string[];
  /** The whole environment; empty when left out. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Changed before the program begins; supplementary groups are dropped with them. */
  readonly uid?: number;
  readonly gid?: number;
}

/**
 * Starts a program that outlives this one: own session and process group, nothing of ours but the descriptors in
 * `stdio` (number n of the list becomes descriptor n there; ours stay open and are the caller's to close). O_NONBLOCK is
 * switched off on the open files that become 0, 1 and 2, for everyone who shares them. It leaves no core file. Resolves
 * once the program really runs; throws HostError naming it and the reason (ENOENT, EACCES).
 */
export async function spawnDetached(
  options: SpawnOptions & {
    readonly stdio: readonly (number | 'ignore')[];
    /** Network and IPC namespaces of its own, with nothing in them; descriptors from elsewhere work on there. */
    readonly alone?: boolean;
    /** Sees no file of the host but programs and libraries; a program that needs others fails. */
    readonly bareRoot?: boolean;
    /** Soft limits; against a program that raises them again `limitProcess` helps. */
    readonly limits?: ProcessLimits;
  },
): Promise<SpawnedProcess> {
  inheritNothing();
  // A core dump would hold a guest's memory.
  const limits = { core: 0, ...options.limits };
  const begin = (): ChildProcess => start(options, [...options.stdio]);
  // The files of the process that are needed to begin are not to be seen in a bare root: it is entered last.
  const bare = (): ChildProcess => (options.bareRoot === true ? inBareRoot(begin) : begin());
  const child = startUndumped(() =>
    startLimited(limits, () => (options.alone === true ? inEmptyNamespaces(bare) : bare())),
  );
  child.unref();
  // Read before the event loop can reap it: even a program that has ended already still is a zombie here.
  const identity = child.pid === undefined ? undefined : identifyChild(child.pid);
  const exit = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  await started(child, options.program);
  if (identity === undefined) {
    throw new HostError(`${options.program} was started and is nowhere to be found`);
  }
  return { identity, exit };
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
    // Some reasons (EPERM, E2BIG) are thrown, some (ENOENT) come as an event.
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
  /** Of stdout and stderr each; more than that ends the program and is an error. 1 MiB when left out. */
  readonly maxOutputBytes?: number;
}

export interface RunResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

const mebibyte = 1 << 20;

/**
 * Runs a program to its end and returns what it said; an exit code is an answer, not an error. When the signal aborts or
 * the output grows too long, the program and what it started in its group are killed. Throws HostError (did not
 * start) or 'process' (was killed by us; the cause is the signal's reason).
 */
export async function runProgram(options: RunOptions, waiting: Waiting): Promise<RunResult> {
  const { program, maxOutputBytes = mebibyte } = options;
  if (waiting.signal.aborted) throw stopped(program, waiting);
  const child = start({ env: { PATH: process.env.PATH ?? '', LC_ALL: 'C' }, ...options }, [
    'pipe',
    'pipe',
    'pipe',
  ]);
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
    stop(new HostError(`${program} said more than ${maxOutputBytes} bytes`));
  const stdout = collect(child.stdout, maxOutputBytes, tooMuch);
  const stderr = collect(child.stderr, maxOutputBytes, tooMuch);
  // A program may end without reading its input; that shows in its exit code.
  child.stdin?.on('error', () => undefined).end(options.stdin);
  const { code, signal } = await closed;
  waiting.signal.removeEventListener('abort', onAbort);
  if (failure !== undefined) throw failure;
  return { code, signal, stdout: stdout(), stderr: stderr() };
}

function stopped(program: string, { signal }: Waiting): HostError {
  const cause: unknown = signal.reason;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new HostError(`${program} was stopped: ${why}`, { cause });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // The group is gone; only a process that left it can still hold the pipes, and no output of it is wanted.
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
