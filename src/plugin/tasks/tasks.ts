import { KeyedQueue, type Logger, slept, within } from '#host';
import type { VmSpec, Waiting } from '#spec';
import type { Domain, ExitResult, GuestAction, StopRequest } from '#vm';
import { messageOf } from '../error/message.ts';
import { PluginError, taskNotFound } from '../error/plugin-error.ts';
import { vmName } from '../job/vm-name.ts';
import type { Backend } from './backend.ts';
import type { TaskName } from './events.ts';
import { type PublishedPort, publishedPorts, refuseSharedPort } from './shared-port.ts';
import type { RecoverRequest } from './task-handle.ts';

/** A start has this long; the steps in it have their own, shorter limits. */
const startMs = 30 * 60_000;
/** Recovery reads files and connects to a socket. When it fails Nomad kills the VM, so the limit is generous. */
const recoverMs = 20_000;
const rewatchMs = 1000;

/** A task with a VM. */
export interface Task extends TaskName {
  readonly domain: Domain;
  /** The task's environment, for commands in the guest. */
  readonly env: Readonly<Record<string, string>>;
  /** The one result that every WaitTask gets. Never rejects. */
  readonly exit: Promise<ExitResult>;
  /** Aborts once the VM has ended. */
  readonly over: AbortSignal;
}

type Entry =
  | {
      readonly kind: 'starting';
      readonly vm: string;
      readonly ports: readonly PublishedPort[];
      readonly start: AbortController;
    }
  | { readonly kind: 'running'; readonly vm: string; readonly task: Task };

/**
 * The tasks this process knows. Starting, recovering and destroying one task happen one after the other; stopping does
 * not wait in that queue: a VM that powers off slowly can still be killed.
 */
export class Tasks {
  readonly #backend: () => Promise<Backend>;
  readonly #log: Logger;
  readonly #startMs: number;
  readonly #entries = new Map<string, Entry>();
  /** By the VM's name, from before the VM exists: its events begin with the first step of the start. */
  readonly #names = new Map<string, TaskName>();
  readonly #queue = new KeyedQueue();

  constructor(options: {
    readonly backend: () => Promise<Backend>;
    readonly log: Logger;
    readonly startMs?: number;
  }) {
    this.#backend = options.backend;
    this.#log = options.log;
    this.#startMs = options.startMs ?? startMs;
  }

  /** Makes the VM. When the signal aborts before it runs, nothing of it is left. */
  async start(names: TaskName, spec: VmSpec, { signal }: Waiting): Promise<Task> {
    const id = names.taskId;
    if (this.#entries.has(id)) {
      throw new PluginError('exists', `task with ID "${id}" already started`);
    }
    const other = this.#names.get(spec.name);
    if (other !== undefined) {
      throw new PluginError('exists', `VM ${spec.name} belongs to task "${other.taskId}"`);
    }
    const ports = publishedPorts(spec);
    this.#refuseSharedPorts(names, ports);
    const start = new AbortController();
    this.#entries.set(id, { kind: 'starting', vm: spec.name, ports, start });
    this.#names.set(spec.name, names);
    using late = within(this.#startMs);
    const limit = AbortSignal.any([signal, start.signal, late.signal]);
    return await this.#queue.run(id, async () => {
      try {
        const domain = await this.#create(spec, { signal: limit });
        return this.#adopt(names, domain, spec.guest.env);
      } catch (cause) {
        this.#forget(id, spec.name);
        throw this.#startError(cause, {
          vm: spec.name,
          cancelled: start.signal,
          late: late.signal,
        });
      }
    });
  }

  #refuseSharedPorts({ allocId }: TaskName, ports: readonly PublishedPort[]): void {
    for (const entry of this.#entries.values()) {
      const names = this.#names.get(entry.vm);
      if (names?.allocId === allocId) refuseSharedPort(ports, portsOf(entry), names);
    }
  }

  async #create(spec: VmSpec, waiting: Waiting): Promise<Domain> {
    const backend = await this.#backend();
    const domain = await backend.createDomain(spec, waiting);
    // The signal may have come too late for the start to notice.
    if (!waiting.signal.aborted) return domain;
    await backend.destroyDomain(spec.name);
    throw waiting.signal.reason;
  }

  /** Where the start was aborted, the error begins with that; the step that it interrupted is the cause. */
  #startError(
    cause: unknown,
    {
      vm,
      cancelled,
      late,
    }: { readonly vm: string; readonly cancelled: AbortSignal; readonly late: AbortSignal },
  ): unknown {
    if (cancelled.aborted) return new PluginError('state', messageOf(cancelled.reason), { cause });
    if (!late.aborted) return cause;
    const message = `VM ${vm} was not started within ${this.#startMs / 1000} s`;
    // A busy host or a slow file system may be faster next time.
    return new PluginError('state', message, { cause, recoverable: true });
  }

  /** Takes over a VM that another process started. A task that is known already is left alone, whatever its handle is. */
  async recover(names: TaskName, request: RecoverRequest, waiting: Waiting): Promise<void> {
    const id = names.taskId;
    await this.#queue.run(id, async () => {
      if (this.#entries.has(id)) return;
      const record = request.readRecord();
      this.#names.set(record.name, names);
      try {
        const backend = await this.#backend();
        using limited = within(recoverMs, waiting);
        const domain = await backend.recoverDomain(record, request, limited);
        if (domain === undefined) throw taskNotFound();
        this.#adopt(names, domain, request.env);
      } catch (error) {
        this.#forget(id, record.name);
        throw error;
      }
    });
  }

  /** undefined as long as the task is starting. */
  find(id: string): Task | undefined {
    const entry = this.#entries.get(id);
    return entry?.kind === 'running' ? entry.task : undefined;
  }

  /** Throws PluginError 'not-found' where find gives undefined. */
  get(id: string): Task {
    const task = this.find(id);
    if (task === undefined) throw taskNotFound();
    return task;
  }

  /** The VMs that run. */
  domains(): readonly Domain[] {
    return [...this.#entries.values()].flatMap((entry) =>
      entry.kind === 'running' && !entry.task.over.aborted ? [entry.task.domain] : [],
    );
  }

  /** The task of a VM. */
  namesOf(vm: string): TaskName | undefined {
    return this.#names.get(vm);
  }

  /** Returns once the VM has ended. An unknown or ended task is no error; a start is cancelled. */
  async stop(id: string, request: StopRequest): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    if (entry.kind === 'starting') {
      entry.start.abort(new PluginError('state', 'the task was stopped while it started'));
      await this.#queue.run(id, async () => {});
      return;
    }
    if (entry.task.over.aborted) return;
    const backend = await this.#backend();
    await backend.stopDomain(entry.vm, request);
  }

  /** Throws PluginError 'state' for a task that does not run. */
  async act(id: string, action: GuestAction, waiting: Waiting): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry?.kind !== 'running' || entry.task.over.aborted) {
      throw new PluginError('state', 'the task does not run');
    }
    const backend = await this.#backend();
    await backend.actOnDomain(entry.vm, action, waiting);
  }

  /** Removes everything a task has on this host, also of a task that only an earlier process knew. */
  async destroy(id: string, force: boolean): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined && !force) throw taskNotFound();
    if (entry?.kind === 'running' && !force && !entry.task.over.aborted) {
      throw new PluginError('state', 'cannot destroy running task');
    }
    if (entry?.kind === 'starting') {
      if (!force) throw new PluginError('state', 'cannot destroy a task that is starting');
      entry.start.abort(new PluginError('state', 'the task was destroyed while it started'));
    }
    await this.#queue.run(id, async () => {
      const backend = await this.#backend();
      const vm = this.#entries.get(id)?.vm ?? entry?.vm ?? vmName(id);
      await backend.destroyDomain(vm);
      this.#forget(id, vm);
    });
  }

  #forget(id: string, vm: string): void {
    this.#entries.delete(id);
    if (this.#names.get(vm)?.taskId === id) this.#names.delete(vm);
  }

  #adopt(names: TaskName, domain: Domain, env: Task['env']): Task {
    const over = new AbortController();
    const exit = this.#watch(names, domain).then((result) => {
      over.abort();
      return result;
    });
    const task: Task = { ...names, domain, env, exit, over: over.signal };
    this.#entries.set(names.taskId, { kind: 'running', vm: domain.name, task });
    return task;
  }

  /** An error of our own must not look like the end of the task: Nomad would start a second VM. */
  async #watch(names: TaskName, domain: Domain): Promise<ExitResult> {
    const { signal } = new AbortController();
    for (;;) {
      try {
        const result = await domain.wait({ signal });
        this.#log.info('task ended', { task: names.taskId, vm: domain.name, ...result });
        return result;
      } catch (error) {
        this.#log.error('waiting for the VM failed, trying again', { vm: domain.name, error });
        await slept(rewatchMs, { signal });
      }
    }
  }
}

/** The labels of the ports that a task publishes; none of one that has ended. */
function portsOf(entry: Entry): readonly string[] {
  if (entry.kind === 'starting') return entry.ports.map(({ label }) => label);
  const { domain, over } = entry.task;
  return over.aborted ? [] : domain.publishedPorts;
}
