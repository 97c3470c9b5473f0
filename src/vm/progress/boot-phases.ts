import { abortable, slept } from '#host';
import type { QmpEvent } from '#qmp';
import { LineSearch, linePattern, type Waiting } from '#spec';
import type { AgentLine } from '../guest/agent/agent-line.ts';
import type { Emit, TaskEvent } from '../task-event.ts';
import type { AgentPresence } from './agent-presence.ts';
import { askAddresses, askCloudInit } from './agent-reports.ts';
import type { ProgressFile } from './progress-file.ts';

/** What shows each on the console: of SeaBIOS, EDK2 and U-Boot; of Linux and FreeBSD; of cloud-init's last module. */
const signs = [
  ['firmware', linePattern('SeaBIOS \\(version|UEFI firmware|BdsDxe: |U-Boot 20\\d\\d')],
  ['kernel', linePattern('Linux version \\d|^\\[ +0\\.000000\\] |EFI stub: |FreeBSD is a reg')],
  ['cloud-init', linePattern('Cloud-init v\\. .* finished at ')],
] as const;
const byAgent = ['agent', 'address', 'cloud-init'] as const;
type Phase = (typeof signs)[number][0] | (typeof byAgent)[number];

/** For cloud-init's own report to come by the agent: it is written after the last line on the console. */
const reportMs = 5000;

export interface BootPhasesOptions {
  readonly file: ProgressFile;
  readonly presence: AgentPresence;
  readonly agent: AgentLine;
  readonly emit: Emit;
}

/** Reports how far the guest has come in each of its boots: each phase once, as far as it can be seen. */
export class BootPhases implements Disposable {
  readonly #options: BootPhasesOptions;
  #boot = new AbortController();
  #searches: readonly (readonly [Phase, LineSearch])[] = [];
  /** Settles when the console shows that cloud-init has finished. */
  #finished = Promise.withResolvers<void>();

  constructor(options: BootPhasesOptions) {
    this.#options = options;
    this.#follow();
  }

  /** Looks at what the guest wrote on its console. */
  read(bytes: Uint8Array): void {
    for (const [phase, search] of this.#searches) if (search.push(bytes)) this.#show(phase);
  }

  observe({ event, atMs }: QmpEvent): void {
    if (event === 'RESET') this.begin(atMs);
  }

  /** Another boot begins, unless it is the one that is known. */
  begin(resetAtMs: number): void {
    const { file, presence } = this.#options;
    if (file.progress.resetAtMs === resetAtMs) return;
    file.note({ resetAtMs, phases: [] });
    presence.lose();
    this.#boot.abort();
    this.#boot = new AbortController();
    this.#finished = Promise.withResolvers();
    this.#follow();
  }

  [Symbol.dispose](): void {
    this.#searches = [];
    this.#boot.abort();
  }

  #follow(): void {
    this.#searches = signs
      .filter(([phase]) => !this.#isReported(phase))
      .map(([phase, sign]) => [phase, new LineSearch(sign)]);
    void this.#followConsole(this.#boot);
    if (!byAgent.every((phase) => this.#isReported(phase))) void this.#followAgent(this.#boot);
  }

  #show(phase: Phase): void {
    this.#searches = this.#searches.filter(([other]) => other !== phase);
    if (phase === 'cloud-init') this.#finished.resolve();
    else this.#report(phase, { message: `Guest's ${phase} has started`, annotations: {} });
  }

  /** The only report where no agent gives another one. */
  async #followConsole(boot: Waiting): Promise<void> {
    const { promise } = this.#finished;
    await abortable(promise, boot).catch(() => {});
    if (!(await slept(reportMs, boot))) return;
    this.#report('cloud-init', { message: 'cloud-init has finished', annotations: {} });
  }

  async #followAgent(boot: Waiting): Promise<void> {
    const { presence, agent } = this.#options;
    if (!(await presence.answers(boot))) return;
    this.#report('agent', { message: 'Guest agent is connected', annotations: {} });
    await Promise.all([
      this.#reportFrom('address', askAddresses(agent, boot)),
      this.#reportFrom('cloud-init', askCloudInit(agent, this.#finished.promise, boot)),
    ]);
  }

  async #reportFrom(phase: Phase, answer: Promise<TaskEvent | undefined>): Promise<void> {
    const event = await answer;
    if (event !== undefined) this.#report(phase, event);
  }

  #isReported(phase: Phase): boolean {
    return this.#options.file.progress.phases?.includes(phase) === true;
  }

  #report(phase: Phase, { message, annotations }: TaskEvent): void {
    const { file, emit } = this.#options;
    if (this.#boot.signal.aborted || this.#isReported(phase)) return;
    file.note({ phases: [...(file.progress.phases ?? []), phase] });
    emit(message, annotations);
  }
}
