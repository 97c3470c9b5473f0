import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { findProgram } from '#host';
import { patient } from './patience.ts';
import { requireOrSkip } from './require.ts';

const inside = 'NQ_NETNS';
// One that hangs is ended, with everything in its namespace.
const usualMs = 150_000;

/**
 * Declares a file's tests so that they run in a network namespace of their own: from outside there is one test, which
 * runs the same file again in there and fails with its output. The namespace goes with the last process in it.
 */
export function inOwnNetns(
  fileUrl: string,
  programs: readonly string[],
  declare: () => void,
  insideMs = usualMs,
): void {
  if (process.env[inside] === '1') {
    declare();
    return;
  }
  const file = fileURLToPath(fileUrl);
  const limitMs = patient(insideMs);
  test(`${basename(file)} in a network namespace of its own`, {
    timeout: limitMs + 10_000,
  }, async (t) => {
    if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root for a network namespace')) return;
    for (const program of ['unshare', ...programs]) {
      if (!requireOrSkip(t, findProgram(program) !== undefined, `needs ${program}`)) return;
    }
    const { code, output } = await runInside(file, AbortSignal.timeout(limitMs));
    assert.equal(code, 0, `${basename(file)} failed in its namespace:\n${output}`);
    t.diagnostic(
      output
        .split('\n')
        .filter((line) => /^[#ℹ] (tests|pass|skipped)/.test(line))
        .join(' '),
    );
  });
}

async function runInside(
  file: string,
  signal: AbortSignal,
): Promise<{ code: number | null; output: string }> {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  // In a process namespace too: when its first process ends, the kernel ends whatever the tests left.
  const args = [
    ...['--net', '--mount', '--pid', '--mount-proc', '--fork', '--kill-child', '--'],
    ...[process.execPath, '--test-force-exit', file],
  ];
  const child = spawn(findProgram('unshare') ?? 'unshare', args, {
    env: { ...env, [inside]: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
    killSignal: 'SIGKILL',
    signal,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const { promise, resolve } = Promise.withResolvers<number | null>();
  child.once('error', (error) => {
    output += String(error);
  });
  child.once('close', resolve);
  return { code: await promise, output };
}

/** A further network namespace, kept by a process of its own. */
export class Namespace implements AsyncDisposable {
  readonly pid: number;
  /** For `setns` and `nsenter`. */
  readonly path: string;
  readonly #end: () => Promise<void>;

  private constructor(pid: number, end: () => Promise<void>) {
    this.pid = pid;
    this.path = `/proc/${pid}/ns/net`;
    this.#end = end;
  }

  /** With its loopback as a new namespace has it, down, or up. */
  static async open({ loopback = true } = {}): Promise<Namespace> {
    const program = findProgram('unshare') ?? 'unshare';
    const child = spawn(program, ['--net', '--', 'sleep', '600'], { stdio: 'ignore' });
    const { promise, resolve } = Promise.withResolvers<void>();
    child.once('exit', () => resolve());
    const { pid } = child;
    assert.ok(pid !== undefined, 'unshare did not start');
    const namespace = new Namespace(pid, async () => {
      child.kill('SIGKILL');
      await promise;
    });
    const own = readlinkSync('/proc/self/ns/net');
    while (readlinkSync(namespace.path) === own) await sleep(2);
    if (loopback) await namespace.ip('link', 'set', 'lo', 'up');
    return namespace;
  }

  /** Runs a program in there; throws with its output when it fails. */
  async run(program: string, ...args: readonly string[]): Promise<string> {
    const { code, output } = await this.try(program, ...args);
    assert.equal(code, 0, `${program} ${args.join(' ')}: ${output}`);
    return output;
  }

  async try(
    program: string,
    ...args: readonly string[]
  ): Promise<{ code: number | null; output: string }> {
    return await command('nsenter', `--net=${this.path}`, '--', program, ...args);
  }

  async ip(...args: readonly string[]): Promise<string> {
    return await this.run('ip', ...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }
}

/** Runs a program here and gives what it said on both streams. */
export async function command(
  name: string,
  ...args: readonly string[]
): Promise<{ code: number | null; output: string }> {
  const child = spawn(findProgram(name) ?? name, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.once('error', reject);
  child.once('close', resolve);
  return { code: await promise, output };
}
