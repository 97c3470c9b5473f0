import { Socket } from 'node:net';
import type { Waiting } from '#spec';
import { HostError } from '../error.ts';
import { closeFd } from '../files/descriptor.ts';
import { type PipeEnds, pipeTo } from '../files/pipe.ts';
import { type Exit, exitOf, startChild } from './child.ts';
import { inheritNothing } from './limits.ts';
import { withNetns } from './netns.ts';
import { childOf, type SpawnOptions } from './spawn.ts';

export interface RunOptions extends SpawnOptions {
  readonly stdin?: string | Uint8Array;
  /** Maximum for each of stdout and stderr; more kills the program and is an error. 1 MiB when left out. */
  readonly maxOutputBytes?: number;
  /** Path of the network namespace that the program runs in; this process's own when left out. */
  readonly netns?: string;
  /** Called once it has begun. */
  readonly onStart?: (pid: number) => void;
}

export interface RunResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

const mebibyte = 1 << 20;
const longMs = 60_000;

/**
 * Runs a program to its end and returns its output; an exit code is a result, not an error. When the signal aborts or
 * the output exceeds its limit, the program and its process group are killed. Throws HostError where it did not start or
 * was killed; after an abort the cause is the signal's reason.
 */
export async function runProgram(options: RunOptions, waiting: Waiting): Promise<RunResult> {
  const { program, netns, maxOutputBytes = mebibyte } = options;
  if (waiting.signal.aborted) throw stopped(program, waiting);
  const env = { PATH: process.env.PATH ?? '', LC_ALL: 'C' };
  const begin = (): PipedChild => startPiped({ env, ...options });
  const child = netns === undefined ? begin() : withNetns(netns, begin);
  options.onStart?.(child.pid);
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
  child.stdin.on('error', () => undefined).end(options.stdin ?? '');
  const { code, signal } = await staysFor(child.exit);
  await Promise.all([stdout.ended, stderr.ended]);
  child.stdin.destroy();
  waiting.signal.removeEventListener('abort', onAbort);
  if (failure !== undefined) throw failure;
  return { code, signal, stdout: stdout.text(), stderr: stderr.text() };
}

/** Waiting for a program's end alone would not keep this process. */
async function staysFor<T>(promise: Promise<T>): Promise<T> {
  const timer = setInterval(() => undefined, longMs);
  try {
    return await promise;
  } finally {
    clearInterval(timer);
  }
}

function stopped(program: string, { signal }: Waiting): HostError {
  const cause: unknown = signal.reason;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new HostError(`${program} was stopped: ${reason}`, { cause });
}

/** A program in a session of its own, whose first three descriptors are pipes to this process. */
interface PipedChild {
  readonly pid: number;
  readonly stdin: Socket;
  readonly stdout: Socket;
  readonly stderr: Socket;
  readonly exit: Promise<Exit>;
}

function startPiped(options: SpawnOptions): PipedChild {
  inheritNothing();
  using theirs = new DisposableStack();
  using ours = new DisposableStack();
  const open = (end: keyof PipeEnds): { readonly own: number; readonly given: number } => {
    const { read, write } = pipeTo(end);
    const [own, given] = end === 'read' ? [read, write] : [write, read];
    return { own: ours.adopt(own, closeFd), given: theirs.adopt(given, closeFd) };
  };
  const [input, output, errors] = [open('write'), open('read'), open('read')];
  const pid = startChild(childOf(options, [input.given, output.given, errors.given]));
  const exit = exitOf(pid);
  ours.move(); // the sockets own them
  return {
    pid,
    stdin: new Socket({ fd: input.own, readable: false, writable: true }),
    stdout: new Socket({ fd: output.own, readable: true, writable: false }),
    stderr: new Socket({ fd: errors.own, readable: true, writable: false }),
    exit,
  };
}

function killGroup({ pid, stdout, stderr }: PipedChild): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // The group has ended; only a process that left it can still hold the pipes, and its output is not needed.
  }
  stdout.destroy();
  stderr.destroy();
}

interface Collected {
  readonly ended: Promise<unknown>;
  readonly text: () => string;
}

function collect(stream: Socket, maxBytes: number, tooMuch: () => void): Collected {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > maxBytes) tooMuch();
    else chunks.push(chunk);
  });
  stream.on('error', () => undefined);
  const ended = new Promise((resolve) => stream.once('close', resolve));
  return { ended, text: () => Buffer.concat(chunks).toString('utf8') };
}
