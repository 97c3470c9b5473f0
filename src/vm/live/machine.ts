import { constants } from 'node:os';
import { abortable, endsWithin, pidfdSignal, within } from '#host';
import type { QmpClient, QmpEvent } from '#qmp';
import type { Waiting } from '#spec';
import { takeScreenshot } from '../control/screenshot.ts';
import { messageOf, OwnedElsewhereError, VmError } from '../error.ts';
import { Figures } from '../figures/figures.ts';
import { Journal } from '../logs/journal.ts';
import type { Client } from '../store/orphans.ts';
import type {
  Domain,
  DomainNetwork,
  DomainRecord,
  DomainState,
  ExecRequest,
  ExitResult,
  GuestAction,
  GuestCommand,
  Screenshot,
  StopRequest,
} from '../virtualizer.ts';
import { exitOf, whenQemuEnds } from './ending.ts';
import { GuestAccess } from './guest-access.ts';
import { GuestState } from './guest-state.ts';
import { Helpers } from './helpers.ts';
import { attributesOf, networkOf, publishedPorts } from './inspect.ts';
import { IoRetry } from './io-retry.ts';
import type { LiveVm } from './live-vm.ts';
import { seemsAlive } from './liveness.ts';
import { Monitor } from './monitor.ts';
import { type Ownership, takeOver } from './ownership.ts';
import { stopInSteps, stopTimes, unreadyStop } from './stop.ts';
import { taskEventOf } from './task-events.ts';

const { SIGKILL, SIGTERM } = constants.signals;
/** A process that waits for a disk cannot end before the disk answers. */
const killMs = 30_000;
const logsMs = 20_000; // for slow readers: one that takes nothing is given up sooner

/** A live VM and, later, how it ended. */
export class Machine implements Domain {
  readonly name: string;
  readonly client: Client;
  readonly onHangUp: Domain['onHangUp'];
  readonly usage: Domain['usage'];
  readonly figures: Domain['figures'];
  readonly #vm: LiveVm;
  readonly #ended = Promise.withResolvers<ExitResult>();
  readonly #released = new AbortController();
  readonly #monitor: Monitor;
  readonly #guest: GuestAccess;
  readonly #helpers: Helpers;
  readonly #journal: Journal;
  readonly #ioRetry: IoRetry;
  readonly #state: GuestState;
  #exit: ExitResult | undefined;
  #completedAtMs: number | undefined;
  #stopping: Promise<void> | undefined;
  #finished: Promise<void> = Promise.resolve();
  #ownership: Ownership | undefined;

  private constructor(vm: LiveVm) {
    const { record, paths, identity, containment, log } = vm;
    this.#vm = vm;
    this.name = record.name;
    this.client = record;
    this.onHangUp = record.exec?.onHangUp;
    const qmp = (): QmpClient | undefined => this.#monitor.client;
    const onFailed = (): void => void this.stop(unreadyStop);
    this.#guest = new GuestAccess(vm, { qmp, state: () => this.state, onFailed });
    this.#helpers = new Helpers(record, identity.bootId, log);
    this.#journal = new Journal(paths.journal, log, (bytes) => containment?.grown(bytes));
    this.#ioRetry = new IoRetry(qmp, log);
    const figures = new Figures({ ...vm, qmp }, this.#released);
    this.usage = (waiting) => figures.usage(waiting);
    this.figures = (waiting) => figures.all(waiting);
    this.#state = new GuestState(record.name, { log, onPaused: () => this.#ioRetry.stopped() });
    this.#monitor = Monitor.keep({
      path: paths.qmp,
      client: vm.qmp,
      isAlive: () => seemsAlive(identity, log),
      onEvent: (event) => this.#observe(event),
      onReconnect: (client) => {
        void this.#state.resync(client);
        this.#guest.resync(client);
      },
      log,
    });
  }

  /** Takes over a VM whose guest runs, or whose QEMU may have ended already, and watches it from then on. */
  static watch(vm: LiveVm): Machine {
    const machine = new Machine(vm);
    machine.#ownership = takeOver(vm, () => machine.release());
    machine.#state.enter('running');
    if (vm.paused) machine.#state.enter('paused');
    machine.#finished = machine.#watch();
    void machine.#helpers.watch(machine.#ended.promise, vm.emit, machine.#released);
    if (vm.status === undefined) machine.#guest.recover(machine.#released);
    return machine;
  }

  get state(): DomainState {
    return this.#state.current;
  }

  get startedAtMs(): number {
    return this.#vm.record.startedAtMs;
  }

  get completedAtMs(): number | undefined {
    return this.#completedAtMs;
  }

  get exit(): ExitResult | undefined {
    return this.#exit;
  }

  get network(): DomainNetwork | undefined {
    return networkOf(this.#vm.record);
  }

  get publishedPorts(): readonly string[] {
    return publishedPorts(this.#vm.record);
  }

  get record(): DomainRecord {
    const { pid, startTicks, bootId } = this.#vm.identity;
    return { name: this.name, dir: this.#vm.paths.dir, pid, startTicks, bootId };
  }

  get attributes(): Readonly<Record<string, string>> {
    const { paths, identity } = this.#vm;
    const { operators, progress } = this.#guest;
    return { ...attributesOf(operators.record, paths, identity), ...progress.attributes };
  }

  async wait(waiting: Waiting): Promise<ExitResult> {
    return abortable(this.#ended.promise, waiting);
  }

  async exec(request: ExecRequest, waiting: Waiting): Promise<GuestCommand> {
    return this.#guest.exec(request, waiting);
  }

  screenshot(waiting: Waiting): Promise<Screenshot> {
    return takeScreenshot(this.#monitor.client, waiting);
  }

  /** Ends the VM within the request's grace, also while another stop is in progress; returns when it has ended. */
  async stop({ graceMs, immediately }: StopRequest): Promise<void> {
    if (this.state === 'exited') return;
    if (immediately || graceMs <= 0) return this.kill();
    this.#enterStopping();
    this.#stopping ??= this.#stopInSteps(graceMs);
    if (await endsWithin(this.#ended.promise, graceMs)) return;
    this.#vm.emit('Killing QEMU');
    await this.kill();
  }

  act(action: GuestAction, waiting: Waiting): Promise<void> {
    return this.#guest.act(action, waiting);
  }

  /** Kills QEMU and returns when it has ended. Refused once another plugin process has taken over the VM. */
  async kill(): Promise<void> {
    if (this.state === 'exited') return;
    this.#enterStopping();
    const { identity } = this.#vm;
    pidfdSignal(identity, SIGKILL);
    using limited = within(killMs);
    try {
      await abortable(this.#ended.promise, limited);
    } catch (cause) {
      throw new VmError('host', `QEMU (pid ${identity.pid}) does not end after SIGKILL`, { cause });
    }
  }

  /** Settles once the VM has ended and its whole log is forwarded. */
  finish(): Promise<void> {
    return this.#finished;
  }

  /** Stops watching the VM without changing it: for the end of the plugin. */
  async release(): Promise<void> {
    this.#stopWatching();
    await this.#guest[Symbol.asyncDispose]();
    await this.#monitor[Symbol.asyncDispose]();
    await this.#vm.logs[Symbol.asyncDispose]();
  }

  #stopWatching(): void {
    this.#released.abort();
    this.#ownership?.[Symbol.dispose]();
    this.#ioRetry[Symbol.dispose]();
    this.#guest.leave();
  }

  /** Refused after a release: this process would neither see the VM's end nor know what to undo. */
  #enterStopping(): void {
    if (this.#released.signal.aborted) throw new OwnedElsewhereError(this.name);
    if (this.state !== 'stopping') this.#state.enter('stopping');
    this.#guest.leave();
  }

  /** SIGKILL is left to the caller. Never rejects. */
  async #stopInSteps(graceMs: number): Promise<void> {
    const { identity, emit, log } = this.#vm;
    const stoppable = {
      qmp: () => this.#monitor.client,
      agent: this.#guest.agent,
      endCommands: (waiting: Waiting) => this.#guest.commands.end(waiting),
      ended: this.#ended.promise,
      terminate: () => pidfdSignal(identity, SIGTERM),
      emit,
    };
    await stopInSteps(stoppable, stopTimes(this.#helpers.limit(graceMs))).catch((error: unknown) =>
      log.warn('stop failed', { vm: this.name, error: messageOf(error) }),
    );
    this.#stopping = undefined;
  }

  async #watch(): Promise<void> {
    const status = await whenQemuEnds(this.#vm, this.#monitor, this.#released);
    if (this.#released.signal.aborted) return;
    const why = { stopping: this.state === 'stopping', failure: this.#guest.progress.failure };
    const exit = exitOf(this.#vm, { status, journal: this.#journal.end(), ...why });
    this.#exit = exit;
    this.#completedAtMs = Date.now();
    this.#state.enter('exited');
    const { emit, log, logs } = this.#vm;
    const { reason, exitCode } = exit;
    log.info('VM ended', { vm: this.name, reason, code: exitCode });
    this.#ended.resolve(exit);
    emit(exit.error ?? `VM ended (${reason})`, { reason, exit_code: String(exitCode) });
    this.#stopWatching();
    using limited = within(logsMs);
    await logs.finish(limited);
    await this.#guest[Symbol.asyncDispose]();
    await this.#monitor[Symbol.asyncDispose]();
  }

  #observe(event: QmpEvent): void {
    this.#state.observe(event);
    this.#guest.observe(event);
    this.#journal.observe(event);
    const report = taskEventOf(event);
    if (report !== undefined) this.#vm.emit(report.message, report.annotations);
  }
}
