import { abortable, slept, within } from '#host';
import { agentDeviceId, isAgentOpen } from '#qemu';
import type { QmpClient, QmpEvent } from '#qmp';
import type { Waiting } from '#spec';
import type { AgentLine } from '../guest/agent/agent-line.ts';

const queryMs = 2000;
/** Short: an agent that hangs must not keep a stop from its turn. */
const answerMs = 1000;
const pausesMs = [250, 500, 1000, 2000, 5000];

/**
 * Whether the guest's agent is there. QEMU reports when a process in the guest opens and closes the agent's port, so a
 * guest without one costs nothing; that it works is known when it has answered.
 */
export class AgentPresence {
  readonly #agent: AgentLine;
  #isOpen = false;
  #opened = Promise.withResolvers<void>();

  constructor(agent: AgentLine) {
    this.#agent = agent;
  }

  observe({ event, data }: QmpEvent): void {
    if (event === 'VSERPORT_CHANGE' && data.id === agentDeviceId) this.#set(data.open === true);
  }

  /** The guest boots again. */
  lose(): void {
    this.#set(false);
  }

  /** For a connection to a QEMU whose earlier events are unknown. */
  async resync(qmp: QmpClient): Promise<void> {
    using limited = within(queryMs);
    const ports = await qmp.execute('query-chardev', {}, limited).catch(() => []);
    const isOpen = isAgentOpen(ports);
    if (isOpen !== undefined) this.#set(isOpen);
  }

  /** Returns true when the agent has answered, false when the signal aborts first. */
  async answers(waiting: Waiting): Promise<boolean> {
    for (let tries = 0; !waiting.signal.aborted; tries += 1) {
      await abortable(this.#opened.promise, waiting).catch(() => {});
      if (await this.#ping(waiting)) return true;
      await slept(pausesMs[Math.min(tries, pausesMs.length - 1)] ?? 0, waiting);
    }
    return false;
  }

  #set(isOpen: boolean): void {
    if (isOpen === this.#isOpen) return;
    this.#isOpen = isOpen;
    if (isOpen) this.#opened.resolve();
    else this.#opened = Promise.withResolvers<void>();
  }

  async #ping(waiting: Waiting): Promise<boolean> {
    if (!this.#isOpen || waiting.signal.aborted) return false;
    using limited = within(answerMs, waiting);
    try {
      await this.#agent.use((it) => it.execute('guest-ping', {}, limited), {}, limited);
      return true;
    } catch {
      return false; // it is starting, hangs, or is no agent
    }
  }
}
