import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CgroupPlan,
  isAlive,
  type Logger,
  oomKills,
  type ProcessIdentity,
  pidfdSignal,
  waitGone,
} from '#host';
import type { QmpClient, QmpEvent } from '#qmp';
import { attributesOf } from './attributes.ts';
import { messageOf, VmError } from './error.ts';
import { exitResult } from './exit.ts';
import { readEnd, trimJournal } from './journal.ts';
import type { LogRelay } from './log-relay.ts';
import { orAborted } from './or-aborted.ts';
import type { VmPaths } from './plan.ts';
import { QmpLink } from './qmp-link.ts';
import type { VmRecord } from './record.ts';
import { guestMemory, measure } from './stats.ts';
import { climbDown, stopTimes } from './stop.ts';
import { type GuestStory, storyOf } from './story.ts';
import type {
  Domain,
  DomainNetwork,
  DomainRecord,
  DomainState,
  DomainUsage,
  ExitResult,
  StopRequest,
} from './virtualizer.ts';

const sigkill = 9;
const sigterm = 15;
/** A process that waits for a disk can't die before the disk answers. */
const killMs = 30_000;
const resetsPerTrim = 64;
const lookAgainMs = 1000;
/** A socket closes a moment before its process is gone. */
const dyingMs = 50;
const MiB = 1024 * 1024;

/** Which state may follow which. */
const next: Readonly<Record<DomainState, readonly DomainState[]>> = {
  starting: ['running', 'paused', 'stopping', 'exited'],
  running: ['paused', 'stopping', 'exited'],
  paused: ['running', 'stopping', 'exited'],
  stopping: ['exited'],
  exited: [],
};

export interface MachineParts {
  readonly record: VmRecord;
  readonly paths: VmPaths;
  readonly identity: ProcessIdentity;
  /** Connected and negotiated; undefined when nobody answers there now. */
  readonly qmp: QmpClient | undefined;
  /** Whether the guest stands still; it runs after a start. */
  readonly paused: boolean;
  /** The kernel's word on the exit, where QEMU is our child. */
  readonly status:
    | Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
    | undefined;
  readonly relays: readonly LogRelay[];
  /** The last lines QEMU printed. */
  readonly lastWords: () => string;
  readonly helperPids: readonly number[];
  readonly network: DomainNetwork | undefined;
  readonly cgroup: CgroupPlan | undefined;
  readonly log: Logger;
  readonly tell: (story: GuestStory) => void;
}

/** A live VM and, later, how it ended. */
export class Machine implements Domain {
  readonly #parts: MachineParts;
  readonly #ended = Promise.withResolvers<ExitResult>();
  readonly #over = new AbortController();
  readonly #qmp: QmpLink;
  #state: DomainState = 'starting';
  #exit: ExitResult | undefined;
  #completedAtMs: number | undefined;
  #resets = 0;
  #stopping: Promise<void> | undefined;
  #finished: Promise<void> = Promise.resolve();

  private constructor(parts: MachineParts) {
    this.#parts = parts;
    this.#qmp = QmpLink.keep({
      path: parts.paths.qmp,
      client: parts.qmp,
      isAlive: () => isAlive(parts.identity),
      onEvent: (event) => this.#heard(event),
      log: parts.log,
    });
  }

  /** Takes over a VM whose guest runs, or whose QEMU may have ended already, and watches it from now on. */
  static watch(parts: MachineParts): Machine {
    const machine = new Machine(parts);
    machine.#enter(parts.paused ? 'paused' : 'running');
    machine.#finished = machine.#watch();
    return machine;
  }

  get name(): string {
    return this.#parts.record.name;
  }

  get nodeId(): string {
    return this.#parts.record.nodeId;
  }

  get state(): DomainState {
    return this.#state;
  }

  get startedAtMs(): number {
    return this.#parts.record.startedAtMs;
  }

  get completedAtMs(): number | undefined {
    return this.#completedAtMs;
  }

  get exit(): ExitResult | undefined {
    return this.#exit;
  }

  get network(): DomainNetwork | undefined {
    return this.#parts.network;
  }

  get record(): DomainRecord {
    const { pid, startTicks, bootId } = this.#parts.identity;
    return { name: this.name, dir: this.#parts.paths.dir, pid, startTicks, bootId };
  }

  get attributes(): Readonly<Record<string, string>> {
    return attributesOf(this.#parts);
  }

  async wait({ signal }: { readonly signal: AbortSignal }): Promise<ExitResult> {
    return orAborted(this.#ended.promise, signal);
  }

  async usage({ signal }: { readonly signal: AbortSignal }): Promise<DomainUsage> {
    const { identity, helperPids, record } = this.#parts;
    const guest = await this.#guestMemory(record.memoryMiB * MiB, signal);
    return measure([identity.pid, ...helperPids], guest, undefined);
  }

  /** Ends the VM within the request's grace; returns when it has ended. */
  async stop({ graceMs, immediately }: StopRequest): Promise<void> {
    if (this.#state === 'exited') return;
    if (immediately || graceMs <= 0) return this.kill();
    this.#stopping ??= this.#stopPolitely(graceMs);
    return this.#stopping;
  }

  /** Kills QEMU and returns when it is gone. */
  async kill(): Promise<void> {
    if (this.#state === 'exited') return;
    if (this.#state !== 'stopping') this.#enter('stopping');
    pidfdSignal(this.#parts.identity, sigkill);
    try {
      await orAborted(this.#ended.promise, AbortSignal.timeout(killMs));
    } catch (cause) {
      throw new VmError('stop', `QEMU (pid ${this.#parts.identity.pid}) does not die of SIGKILL`, {
        cause,
      });
    }
  }

  /** Lets go of everything in this process, once the VM has ended: what was logged is passed on first. */
  async finish(): Promise<void> {
    await this.#finished;
  }

  /** Lets go of the VM without touching it: for the end of the plugin. */
  async release(): Promise<void> {
    this.#over.abort();
    await this.#qmp[Symbol.asyncDispose]();
    for (const relay of this.#parts.relays) await relay[Symbol.asyncDispose]();
  }

  async #stopPolitely(graceMs: number): Promise<void> {
    this.#enter('stopping');
    const ended = await climbDown(
      {
        qmp: () => this.#qmp.client,
        agentPath: this.#parts.paths.agent,
        ended: this.#ended.promise,
        terminate: () => pidfdSignal(this.#parts.identity, sigterm),
        tell: (message) => this.#parts.tell({ message, annotations: {} }),
      },
      stopTimes(graceMs),
    );
    if (!ended) {
      this.#parts.tell({ message: 'Killing QEMU', annotations: {} });
      await this.kill();
    }
  }

  async #guestMemory(
    limitBytes: number,
    signal: AbortSignal,
  ): Promise<Awaited<ReturnType<typeof guestMemory>>> {
    const { client } = this.#qmp;
    if (client === undefined || this.#state === 'exited') return undefined;
    try {
      const limited = AbortSignal.any([signal, AbortSignal.timeout(500)]);
      return await guestMemory(client, limitBytes, { signal: limited });
    } catch {
      return undefined; // a figure the guest may give; its absence is no fault
    }
  }

  async #watch(): Promise<void> {
    const status = await this.#whenGone();
    if (this.#over.signal.aborted) return;
    const exit = await this.#howItEnded(status);
    this.#exit = exit;
    this.#completedAtMs = Date.now();
    this.#enter('exited');
    this.#parts.log.info('VM ended', { vm: this.name, reason: exit.reason, code: exit.exitCode });
    this.#ended.resolve(exit);
    this.#parts.tell({
      message: exit.error ?? `VM ended (${exit.reason})`,
      annotations: { reason: exit.reason, exit_code: String(exit.exitCode) },
    });
    this.#over.abort();
    const limited = { signal: AbortSignal.timeout(2000) };
    await Promise.all(this.#parts.relays.map((relay) => relay.finish(limited)));
    await this.#qmp[Symbol.asyncDispose]();
  }

  /** Returns when QEMU's process is gone; with its exit status where the kernel told us. */
  async #whenGone(): Promise<Awaited<MachineParts['status']>> {
    const { identity, status } = this.#parts;
    if (status !== undefined) return status;
    // Not our child: the socket's end tells of its death at once, a look now and then covers a lost connection.
    while (isAlive(identity) && !this.#over.signal.aborted) {
      const { client } = this.#qmp;
      if (client !== undefined) await client.closed;
      else await sleep(lookAgainMs, undefined, { signal: this.#over.signal }).catch(() => {});
      await waitGone(identity, { signal: AbortSignal.timeout(dyingMs) }).catch(() => {});
    }
    return undefined;
  }

  async #howItEnded(status: Awaited<MachineParts['status']>): Promise<ExitResult> {
    const { paths, cgroup, record, lastWords } = this.#parts;
    return exitResult({
      journal: await readEnd(paths.journal),
      status,
      oomKills: cgroup === undefined ? 0 : oomKills(cgroup) - record.oomKillsBefore,
      stopping: this.#state === 'stopping',
      lastWords: lastWords(),
    });
  }

  #heard(event: QmpEvent): void {
    if (event.event === 'STOP' && this.#state === 'running') this.#enter('paused');
    if (event.event === 'RESUME' && this.#state === 'paused') this.#enter('running');
    if (event.event === 'RESET') this.#countReset();
    const story = storyOf(event);
    if (story !== undefined) this.#parts.tell(story);
  }

  #countReset(): void {
    this.#resets += 1;
    if (this.#resets % resetsPerTrim !== 0) return;
    try {
      trimJournal(this.#parts.paths.journal);
    } catch (error) {
      this.#parts.log.warn('journal not trimmed', { vm: this.name, reason: messageOf(error) });
    }
  }

  #enter(state: DomainState): void {
    if (!next[this.#state].includes(state)) {
      throw new Error(`VM ${this.name}: no way from ${this.#state} to ${state}`);
    }
    this.#parts.log.debug('VM state', { vm: this.name, from: this.#state, to: state });
    this.#state = state;
  }
}
