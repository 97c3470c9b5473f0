import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Report } from './report.ts';

const address = 'http://127.0.0.1:4646';
const readyMs = 30_000;
const endMs = 20_000;

/** A `nomad agent -dev` and the commands of its user. */
export class Agent implements AsyncDisposable {
  readonly #program: string;
  readonly #report: Report;
  readonly #process: ChildProcess;
  readonly #log: string;
  readonly #exited: Promise<void>;
  readonly #signal: AbortSignal;
  #hasExited = false;

  private constructor({
    program,
    report,
    child,
    log,
    signal,
  }: {
    readonly program: string;
    readonly report: Report;
    readonly child: ChildProcess;
    readonly log: string;
    readonly signal: AbortSignal;
  }) {
    this.#program = program;
    this.#report = report;
    this.#process = child;
    this.#log = log;
    this.#signal = signal;
    this.#exited = new Promise((resolve) => {
      child.on('exit', () => {
        this.#hasExited = true;
        resolve();
      });
      child.on('error', () => resolve());
    });
  }

  /** Starts it and waits until it answers. */
  static async start(
    {
      program,
      config,
      dir,
      report,
    }: {
      readonly program: string;
      readonly config: string;
      readonly dir: string;
      readonly report: Report;
    },
    { signal }: { readonly signal: AbortSignal },
  ): Promise<Agent> {
    const log = join(dir, 'agent.log');
    const temporary = join(dir, 'tmp');
    await mkdir(temporary);
    // A file, not a pipe: the agent's child processes hold its output open, and some outlive it.
    const output = openSync(log, 'a', 0o600);
    // In a group of its own: Ctrl-C is for the demo, which ends the agent after the job.
    const child = spawn(program, ['agent', '-dev', `-config=${config}`], {
      detached: true,
      stdio: ['ignore', output, output],
      env: { ...process.env, TMPDIR: temporary, PATH: `/usr/sbin:/sbin:${process.env.PATH}` },
    });
    closeSync(output);
    const agent = new Agent({ program, report, child, log, signal });
    try {
      await agent.until('the agent answers', readyMs, async () => {
        return typeof (await agent.get('/v1/status/leader')) === 'string';
      });
      return agent;
    } catch (error) {
      await agent[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Asks the HTTP API. Throws for any answer but 200. */
  async get(path: string): Promise<unknown> {
    const signal = AbortSignal.any([this.#signal, AbortSignal.timeout(5000)]);
    const response = await fetch(`${address}${path}`, { signal });
    if (!response.ok) throw new Error(`${path}: HTTP ${response.status}`);
    return await response.json();
  }

  /** Waits until `check` returns true; an error of it counts as not yet, except TaskFailed. */
  async until(what: string, limitMs: number, check: () => Promise<boolean>): Promise<void> {
    const end = performance.now() + limitMs;
    while (performance.now() < end) {
      this.#signal.throwIfAborted();
      if (this.#hasExited)
        throw new Error(`the agent has ended; its last messages:\n${this.#lastLines()}`);
      if (await check().catch(notYet)) return;
      await sleep(200, undefined, { signal: this.#signal });
    }
    throw new Error(
      `waited ${limitMs / 1000} s in vain for: ${what}; the agent's last messages:\n${this.#lastLines()}`,
    );
  }

  /** The id of the job's one allocation, once its task runs; reports the task's events as they occur. */
  async allocation(job: string, limitMs: number): Promise<string> {
    let id = '';
    const reported = new Set<string>();
    await this.until('the task runs', limitMs, async () => {
      const [alloc] = list(await this.get(`/v1/job/${job}/allocations`));
      if (alloc === undefined) return false;
      id = String(alloc.ID);
      const [task] = Object.values(object(alloc.TaskStates));
      const state = object(task);
      for (const event of list(state.Events)) {
        const text = `${event.Type}: ${event.DisplayMessage}`;
        if (!reported.has(text)) this.#report.event(text);
        reported.add(text);
      }
      if (state.Failed === true)
        throw new TaskFailed('the task has failed; its events have the cause');
      return state.State === 'running';
    });
    return id;
  }

  /** Runs a nomad command and shows it with its output. */
  async show(
    args: readonly string[],
    keep: (line: string) => boolean = () => true,
    print: (line: string) => void = (line) => this.#report.line(line),
  ): Promise<void> {
    this.#report.line(`$ nomad ${args.join(' ')}`);
    const output = await this.#run(args);
    for (const line of output.trimEnd().split('\n').filter(keep)) print(line);
  }

  async #run(args: readonly string[]): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const env = { ...process.env, NOMAD_ADDR: address, NO_COLOR: '1' };
    execFile(this.#program, args, { env, signal: this.#signal }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`nomad ${args.join(' ')}: ${stderr.trim() || error.message}`));
    });
    return promise;
  }

  #lastLines(): string {
    return readFileSync(this.#log, 'utf8').trim().split('\n').slice(-15).join('\n');
  }

  /** Ends the agent; in dev mode it stops its tasks first. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGINT');
    const late = setTimeout(() => this.#process.kill('SIGKILL'), endMs);
    await this.#exited;
    clearTimeout(late);
  }
}

class TaskFailed extends Error {
  override readonly name = 'TaskFailed';
}

function notYet(error: unknown): false {
  if (error instanceof TaskFailed) throw error;
  return false;
}

function list(json: unknown): readonly Readonly<Record<string, unknown>>[] {
  return Array.isArray(json) ? json.map(object) : [];
}

function object(json: unknown): Readonly<Record<string, unknown>> {
  return typeof json === 'object' && json !== null ? Object.fromEntries(Object.entries(json)) : {};
}
