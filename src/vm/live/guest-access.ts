import type { QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import { AgentLine } from '../guest/agent-line.ts';
import { GuestCommands } from '../guest/guest-commands.ts';
import type { GuestAction } from '../virtualizer.ts';
import { act } from './act.ts';
import type { LiveVm } from './live-vm.ts';

/** What reaches into the guest of one VM: its agent, the commands that run there, and what is done to it as a whole. */
export interface GuestAccess {
  readonly agent: AgentLine;
  readonly commands: GuestCommands;
  act(action: GuestAction, waiting: Waiting): Promise<void>;
}

export function guestAccess(
  { record, paths, log }: LiveVm,
  qmp: () => QmpClient | undefined,
): GuestAccess {
  const agent = new AgentLine(paths.agent);
  const user = record.exec?.user;
  return {
    agent,
    commands: new GuestCommands({ agent, dir: paths.exec, qmp, user, log }),
    act: (action, waiting) => act(action, { qmp: qmp(), agent }, waiting),
  };
}
