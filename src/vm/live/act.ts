import { within } from '#host';
import { type QmpClient, QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { notConnected, VmError } from '../error.ts';
import type { AgentLine } from '../guest/agent/agent-line.ts';
import type { GuestAction } from '../virtualizer.ts';

const commands = {
  pause: 'stop',
  resume: 'cont',
  reset: 'system_reset',
  nmi: 'inject-nmi',
} as const satisfies Record<GuestAction, string>;

const answerMs = 5000;
const clockMs = 2000;

/** Does it to a guest that runs or is paused. Throws VmError. */
export async function act(
  action: GuestAction,
  { qmp, agent }: { readonly qmp: QmpClient | undefined; readonly agent: AgentLine },
  waiting: Waiting,
): Promise<void> {
  if (qmp === undefined) throw notConnected();
  using limited = within(answerMs, waiting);
  try {
    await qmp.execute(commands[action], {}, limited);
  } catch (cause) {
    if (!(cause instanceof QmpError)) throw cause;
    throw new VmError('host', `QEMU refused ${commands[action]}: ${cause.message}`, { cause });
  }
  if (action === 'resume') void setClock(agent);
}

/** A guest that was paused has lost the time, unless its agent can set it. */
async function setClock(agent: AgentLine): Promise<void> {
  using limited = within(clockMs);
  await agent
    .use(
      async (session) => {
        await session.execute('guest-set-time', { time: Date.now() * 1e6 }, limited);
      },
      {},
      limited,
    )
    .catch(() => {});
}
