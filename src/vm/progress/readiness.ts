import { abortable, type Logger, slept } from '#host';
import { LineSearch, linePattern, type Waiting } from '#spec';
import { messageOf } from '../error.ts';
import type { RecordedReady } from '../store/record.ts';
import type { Emit } from '../task-event.ts';
import type { AgentPresence } from './agent-presence.ts';
import { durationText } from './duration-text.ts';
import { portOpens } from './guest-port.ts';
import type { ProgressFile } from './progress-file.ts';

/** What a process that adopts a VM after its time was up still gives it. */
const minLeftMs = 10_000;

export interface ReadinessOptions {
  readonly ready: RecordedReady;
  /** Time since the start of the VM. */
  readonly ageMs: () => number;
  readonly file: ProgressFile;
  readonly agent: AgentPresence;
  readonly emit: Emit;
  readonly log: Logger;
  /** Called, after the reason was noted, where the job wants its task to fail for that. */
  readonly onFailed: () => void;
}

type Condition = 'agent' | 'port' | 'log';

/** Waits until the guest is ready as its job defines it, and reports that, or that it takes too long; each once. */
export class Readiness {
  readonly #options: ReadinessOptions;
  readonly #search: LineSearch | undefined;
  readonly #logged = Promise.withResolvers<true>();

  constructor(options: ReadinessOptions) {
    this.#options = options;
    this.#search = searchOf(options);
  }

  /** Looks at what the guest wrote on its console. */
  read(bytes: Uint8Array): void {
    if (this.#search?.push(bytes)) this.#logged.resolve(true);
  }

  /** Returns when the guest is ready, its task is to fail, or the signal aborts; never rejects. */
  async run(waiting: Waiting): Promise<void> {
    const { progress } = this.#options.file;
    if (progress.readiness === 'ready' || progress.readiness === 'failed') return;
    const over = new AbortController();
    const both = { signal: AbortSignal.any([waiting.signal, over.signal]) };
    if (progress.readiness === undefined) void this.#timeOut(over, both);
    const met = await Promise.all(this.#pending.map((condition) => this.#meet(condition, both)));
    if (both.signal.aborted || met.includes(false)) return;
    over.abort();
    this.#reportReady();
  }

  get #pending(): readonly Condition[] {
    const { ready, file } = this.#options;
    const wanted: Readonly<Record<Condition, boolean>> = {
      agent: ready.agent,
      port: ready.port !== undefined,
      log: this.#search !== undefined,
    };
    const { met = [] } = file.progress;
    return (['agent', 'port', 'log'] as const).filter((it) => wanted[it] && !met.includes(it));
  }

  async #meet(condition: Condition, waiting: Waiting): Promise<boolean> {
    const { file } = this.#options;
    if (!(await this.#isMet(condition, waiting))) return false;
    file.note({ met: [...(file.progress.met ?? []), condition] });
    return true;
  }

  async #isMet(condition: Condition, waiting: Waiting): Promise<boolean> {
    const { agent, ready } = this.#options;
    switch (condition) {
      case 'agent':
        return agent.answers(waiting);
      case 'port':
        return ready.port === undefined || portOpens(ready.port, waiting);
      case 'log':
        return abortable(this.#logged.promise, waiting).catch(() => false);
      default:
        return condition satisfies never;
    }
  }

  #reportReady(): void {
    const { ageMs, file, emit } = this.#options;
    const readyAfterMs = ageMs();
    file.note({ readiness: 'ready', readyAfterMs });
    emit(`Guest is ready after ${durationText(readyAfterMs)}`);
  }

  async #timeOut(over: AbortController, waiting: Waiting): Promise<void> {
    const { ready, ageMs, file, emit, onFailed } = this.#options;
    const leftMs = ready.timeoutMs - ageMs();
    if (!(await slept(Math.max(Math.min(minLeftMs, ready.timeoutMs), leftMs), waiting))) return;
    const missing = this.#pending.map((condition) => this.#lack(condition)).join('; ');
    const reason = `Guest is not ready after ${durationText(ready.timeoutMs)}: ${missing}`;
    if (ready.fail) {
      over.abort();
      file.note({ readiness: 'failed', failure: reason });
      onFailed();
    } else {
      file.note({ readiness: 'late' });
      emit(reason);
    }
  }

  #lack(condition: Condition): string {
    const { port } = this.#options.ready;
    switch (condition) {
      case 'agent':
        return 'its agent does not answer';
      case 'port':
        return `nothing answers at ${port?.address} port ${port?.port}`;
      case 'log':
        return 'its console has not shown what "log" describes';
      default:
        return condition satisfies never;
    }
  }
}

function searchOf({ ready, log }: ReadinessOptions): LineSearch | undefined {
  if (ready.log === undefined) return undefined;
  try {
    return new LineSearch(linePattern(ready.log));
  } catch (error) {
    // A later release, whose patterns have more, started the VM.
    log.warn('the console is not searched', { pattern: ready.log, error: messageOf(error) });
    return undefined;
  }
}
