import { type Logger, within } from '#host';
import { isAgentOpen } from '#qemu';
import type { QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf } from '../error.ts';
import type { AgentLine } from '../guest/agent/agent-line.ts';

/** The guest writes out what it has in memory first. */
const usualFreezeMs = 15_000;
const thawMs = 15_000;
const thawTries = 4;
const lookMs = 5000;

export interface Quiet {
  readonly qmp: QmpClient;
  readonly agent: AgentLine;
  readonly log: Logger;
  /** How long the guest may take to freeze its file systems. */
  readonly freezeMs?: number;
}

/**
 * Does the work, a short one, while the guest writes nothing to its file systems, if its agent can bring that about.
 * They are thawed whatever happens. Returns how consistent they were, in a sentence for the operator.
 */
export async function whileQuiet(
  work: () => Promise<void>,
  { qmp, agent, log, freezeMs = usualFreezeMs }: Quiet,
  waiting: Waiting,
): Promise<string> {
  const missing = await agentMissing(qmp, waiting);
  if (missing !== undefined) {
    await work();
    return `as after a power failure: ${missing}`;
  }
  let count: number | undefined;
  let problem = '';
  try {
    using limited = within(freezeMs, waiting);
    count = await freeze(agent, limited);
  } catch (error) {
    problem = messageOf(error);
  }
  try {
    await work();
  } finally {
    // Also where the freeze failed: some may be frozen, or all of them later.
    await thaw(agent, log);
  }
  if (count === undefined) return `as after a power failure: not frozen: ${problem}`;
  return `consistent: ${count} file system${count === 1 ? ' was' : 's were'} frozen`;
}

async function agentMissing(qmp: QmpClient, waiting: Waiting): Promise<string | undefined> {
  using limited = within(lookMs, waiting);
  const ports = await qmp.execute('query-chardev', {}, limited);
  return isAgentOpen(ports) ? undefined : 'the guest agent is not connected';
}

function freeze(agent: AgentLine, waiting: Waiting): Promise<number> {
  return agent.use((it) => it.execute('guest-fsfreeze-freeze', {}, waiting), {}, waiting);
}

/** Never rejects: a guest that stays frozen is reported, and has a way out, its reset. */
export async function thaw(agent: AgentLine, log: Logger): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    using limited = within(thawMs);
    try {
      await agent.use(
        (it) => it.execute('guest-fsfreeze-thaw', {}, limited),
        { urgent: true },
        limited,
      );
      return;
    } catch (error) {
      if (tries < thawTries) continue;
      log.warn('file systems of the guest may be frozen', { error: messageOf(error) });
      return;
    }
  }
}
