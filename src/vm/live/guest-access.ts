import type { QmpClient } from '#qmp';
import { AgentLine } from '../guest/agent-line.ts';
import { GuestCommands } from '../guest/guest-commands.ts';
import type { LiveVm } from './live-vm.ts';

/** What reaches into the guest of one VM: its agent, and the commands that run there. */
export interface GuestAccess {
  readonly agent: AgentLine;
  readonly commands: GuestCommands;
}

export function guestAccess(
  { record, paths, log }: LiveVm,
  qmp: () => QmpClient | undefined,
): GuestAccess {
  const agent = new AgentLine(paths.agent);
  const user = record.exec?.user;
  return { agent, commands: new GuestCommands({ agent, dir: paths.exec, qmp, user, log }) };
}
