import {
  abortable,
  type CgroupPlan,
  endsWithin,
  type Logger,
  oomKills,
  type ProcessIdentity,
  pidfdSignal,
  within,
} from '#host';
import type { QmpClient, QmpEvent } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../error.ts';
import type { Journal } from '../logs/journal.ts';
import type { LogRelay } from '../logs/log-relay.ts';
import type { VmPaths } from '../store/paths.ts';
import type { VmRecord } from '../store/record.ts';
import type {
  Domain,
  DomainNetwork,
  DomainRecord,
  DomainState,
  DomainUsage,
  ExitResult,
  StopRequest,
} from '../virtualizer.ts';
import { exitResult } from './exit.ts';
import { attributesOf } from './inspect.ts';
import { IoRetry } from './io-retry.ts';
import { seemsAlive, whenGone } from './liveness.ts';
import { QmpLink } from './monitor.ts';
import { Ownership } from './ownership.ts';
import { mayFollow } from './state.ts';
import { guestMemory, measure } from './stats.ts';
import { climbDown, stopTimes } from './stop.ts';
import { type GuestStory, storyOf } from './task-events.ts';

const [sigkill, sigterm] = [9, 15];
/** A process that waits for a disk can't die before the disk answers. */
const killMs = 30_000;
const statusMs = 1000;

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
  readonly journal: Journal;
  readonly log: Logger;
  readonly tell: (story: GuestStory) => void;
}

/** A live VM and, later, how it ended. */
export class Machine implements Domain {
  readonly #parts: MachineParts;
  readonly #ended = Promise.withResolvers<ExitResult>();
  readonly #over = new AbortController();
  readonly #qmp: QmpLink;
  readonly #ioRetry: IoRetry;
  #state: DomainState = 'starting';
  #exit: ExitResult | undefined;
  #completedAtMs: number | undefined;
  #ladder: Promise<void> | undefined;
  #finished: Promise<void> = Promise.resolve();
  #ownership: Ownership | undefined;

  private constructor(parts: MachineParts) {
    this.#parts = parts;
    this.#ioRetry = new IoRetry(() => this.#qmp.client, parts.log);
    this.#qmp = QmpLink.keep({
      path: parts.paths.qmp,
      client: parts.qmp,
      isAlive: () => seemsAlive(parts.identity, parts.log),
      onEvent: (event) => this.#heard(event),
      onReconnect: (client) => void this.#lookAgain(client),
      log: parts.log,
    });
  }

  /** Takes over a VM whose guest runs, or whose QEMU may have ended already, and watches it from now on. */
  static watch(parts: MachineParts): Machine {
    const machine = new Machine(parts);
    machine.#takeOver();
    machine.#enter('running');
    if (parts.paused) machine.#paused();
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

  wait = (waiting: Waiting): Promise<ExitResult> => abortable(this.#ended.promise, waiting);

  async usage(waiting: Waiting): Promise<DomainUsage> {
    const { identity, helperPids, record } = this.#parts;
    const guest = await guestMemory(this.#qmp.client, record.memoryMiB * 2 ** 20, waiting);
    return measure([identity.pid, ...helperPids], guest, undefined);
  }

  /** Ends the VM within the request's grace, whatever other stop is under way; returns when it has ended. */
  async stop({ graceMs, immediately }: StopRequest): Promise<void> {
    if (this.#state === 'exited') return;
    if (immediately || graceMs <= 0) return this.kill();
    this.#enterStopping();
    this.#ladder ??= this.#climbDown(graceMs);
    if (await endsWithin(this.#ended.promise, graceMs)) return;
    this.#parts.tell({ message: 'Killing QEMU', annotations: {} });
    await this.kill();
  }

  /** Kills QEMU and returns when it is gone. Refused once another plugin process has the VM. */
  async kill(): Promise<void> {
    if (this.#state === 'exited') return;
    this.#enterStopping();
    pidfdSignal(this.#parts.identity, sigkill);
    using limited = within(killMs);
    try {
      await abortable(this.#ended.promise, limited);
    } catch (cause) {
      throw new VmError('stop', `QEMU (pid ${this.#parts.identity.pid}) does not die of SIGKILL`, {
        cause,
      });
    }
  }

  /** Lets go of everything in this process, once the VM has ended: what was logged is passed on first. */
  finish(): Promise<void> {
    return this.#finished;
  }

  /** Lets go of the VM without touching it: for the end of the plugin. */
  async release(): Promise<void> {
    this.#letGo();
    await this.#qmp[Symbol.asyncDispose]();
    for (const relay of this.#parts.relays) await relay[Symbol.asyncDispose]();
  }

  #letGo(): void {
    this.#over.abort();
    this.#ownership?.[Symbol.dispose]();
    this.#ioRetry[Symbol.dispose]();
  }

  /** A process that has let go of the VM would neither hear it end nor know what to undo. */
  #enterStopping(): void {
    if (this.#over.signal.aborted)
      throw new VmError('taken', `another plugin process looks after VM ${this.name} now`);
    if (this.#state !== 'stopping') this.#enter('stopping');
  }

  #takeOver(): void {
    const { paths, log } = this.#parts;
    try {
      this.#ownership = Ownership.take(paths.owner, () => {
        log.warn('another plugin process has taken over the VM', { vm: this.name });
        void this.release();
      });
    } catch (error) {
      log.debug('no owner is noted', { vm: this.name, reason: messageOf(error) });
    }
  }

  /** Asks the guest and then QEMU to end; killing is left to whoever waits. Never rejects. */
  async #climbDown(graceMs: number): Promise<void> {
    try {
      await climbDown(
        {
          qmp: () => this.#qmp.client,
          agentPath: this.#parts.paths.agent,
          ended: this.#ended.promise,
          terminate: () => pidfdSignal(this.#parts.identity, sigterm),
          tell: (message) => this.#parts.tell({ message, annotations: {} }),
        },
        stopTimes(graceMs),
      );
    } catch (error) {
      this.#parts.log.warn('stopping failed', { vm: this.name, reason: messageOf(error) });
    } finally {
      this.#ladder = undefined;
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
    this.#letGo();
    await Promise.all(this.#parts.relays.map((relay) => relay.finish(within(2000))));
    await this.#qmp[Symbol.asyncDispose]();
  }

  /** Returns when QEMU's process is gone; with its exit status where the kernel told us. */
  async #whenGone(): Promise<Awaited<MachineParts['status']>> {
    const { identity, status, log } = this.#parts;
    if (status !== undefined) return status;
    await whenGone(identity, { link: this.#qmp, log }, this.#over);
    return undefined;
  }

  async #howItEnded(status: Awaited<MachineParts['status']>): Promise<ExitResult> {
    const { cgroup, record, lastWords } = this.#parts;
    return exitResult({
      journal: this.#parts.journal.end(),
      status,
      oomKills: cgroup === undefined ? 0 : oomKills(cgroup) - record.oomKillsBefore,
      stopping: this.#state === 'stopping',
      lastWords,
    });
  }

  #heard(event: QmpEvent): void {
    if (event.event === 'STOP' && this.#state === 'running') this.#paused();
    if (event.event === 'RESUME' && this.#state === 'paused') this.#enter('running');
    this.#parts.journal.heard(event);
    const story = storyOf(event);
    if (story !== undefined) this.#parts.tell(story);
  }

  #paused(): void {
    this.#enter('paused');
    this.#ioRetry.stopped();
  }

  /** After a connection was lost: the guest may have been stopped or resumed meanwhile. */
  async #lookAgain(client: QmpClient): Promise<void> {
    try {
      const { running } = await client.execute('query-status', {}, within(statusMs));
      if (!running && this.#state === 'running') this.#paused();
      if (running && this.#state === 'paused') this.#enter('running');
    } catch (error) {
      this.#parts.log.debug('state not asked', { vm: this.name, reason: messageOf(error) });
    }
  }

  #enter(state: DomainState): void {
    if (!mayFollow(this.#state, state)) {
      throw new Error(`VM ${this.name}: no way from ${this.#state} to ${state}`);
    }
    this.#parts.log.debug('VM state', { vm: this.name, from: this.#state, to: state });
    this.#state = state;
  }
}
