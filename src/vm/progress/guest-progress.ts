import type { Logger, ProcessIdentity } from '#host';
import type { QmpClient, QmpEvent } from '#qmp';
import type { AgentLine } from '../guest/agent/agent-line.ts';
import type { ConsoleFeed } from '../logs/console-feed.ts';
import type { VmRecord } from '../store/record.ts';
import type { Emit } from '../task-event.ts';
import { ageOf } from './age.ts';
import { AgentPresence } from './agent-presence.ts';
import { BootPhases } from './boot-phases.ts';
import { durationText } from './duration-text.ts';
import { ProgressFile } from './progress-file.ts';
import { Readiness } from './readiness.ts';

export interface GuestProgressOptions {
  readonly record: VmRecord;
  readonly identity: ProcessIdentity;
  /** Of the file that keeps it for the next process. */
  readonly path: string;
  /** When the guest booted again for the last time, as QEMU reported it; undefined where it did not. */
  readonly resetAtMs: number | undefined;
  /** The connection that there is already. */
  readonly qmp: QmpClient | undefined;
  readonly agent: AgentLine;
  readonly console: ConsoleFeed;
  readonly emit: Emit;
  readonly log: Logger;
  /** Called when the task is to fail. */
  readonly onFailed: () => void;
}

/** How far the guest of one VM has come, reported as events of its task. */
export class GuestProgress implements Disposable {
  readonly #file: ProgressFile;
  readonly #presence: AgentPresence;
  readonly #phases: BootPhases;
  readonly #readiness: Readiness | undefined;
  readonly #ended = new AbortController();

  constructor({
    record,
    identity,
    path,
    qmp,
    resetAtMs,
    agent,
    console,
    emit,
    log,
    onFailed,
  }: GuestProgressOptions) {
    const { ready } = record;
    const ageMs = ageOf(identity);
    const file = ProgressFile.open(path, log);
    const presence = new AgentPresence(agent);
    this.#file = file;
    this.#presence = presence;
    this.#readiness =
      ready && new Readiness({ ready, ageMs, file, agent: presence, emit, log, onFailed });
    this.#phases = new BootPhases({ file, presence, agent, emit });
    if (resetAtMs !== undefined) this.#phases.begin(resetAtMs);
    console.listen((bytes) => {
      this.#phases.read(bytes);
      this.#readiness?.read(bytes);
    });
    if (qmp !== undefined) this.resync(qmp);
    void this.#readiness?.run(this.#ended);
  }

  observe(event: QmpEvent): void {
    if (this.#ended.signal.aborted) return;
    this.#phases.observe(event);
    this.#presence.observe(event);
  }

  /** For a connection to a QEMU whose earlier events are unknown. */
  resync(qmp: QmpClient): void {
    void this.#presence.resync(qmp);
  }

  /** For InspectTask. */
  get attributes(): Readonly<Record<string, string>> {
    if (this.#readiness === undefined) return {};
    const { readiness, readyAfterMs } = this.#file.progress;
    const health =
      readiness === undefined ? 'starting' : readiness === 'ready' ? 'ready' : 'not ready';
    return {
      health,
      ...(readyAfterMs === undefined ? {} : { 'ready.after': durationText(readyAfterMs) }),
    };
  }

  /** Why the task is to fail, also when an earlier process found that. */
  get failure(): string | undefined {
    return this.#file.progress.failure;
  }

  /** Nothing more is asked of the guest, or reported: its VM is stopped, or ends. */
  [Symbol.dispose](): void {
    this.#ended.abort();
    this.#phases[Symbol.dispose]();
  }
}
