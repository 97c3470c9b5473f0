import type { QmpClient } from '#qmp';
import type { Waiting } from '#spec';
import { AgentLine } from '../guest/agent-line.ts';
import { GuestCommands } from '../guest/guest-commands.ts';
import { GuestProgress } from '../progress/guest-progress.ts';
import type { GuestAction } from '../virtualizer.ts';
import { act } from './act.ts';
import type { LiveVm } from './live-vm.ts';

/** What reaches into the guest of one VM: its agent, the commands there, how far it has come, what is done to it as a whole. */
export interface GuestAccess {
  readonly agent: AgentLine;
  readonly commands: GuestCommands;
  readonly progress: GuestProgress;
  act(action: GuestAction, waiting: Waiting): Promise<void>;
}

export function guestAccess(
  vm: LiveVm,
  { qmp, onFailed }: { readonly qmp: () => QmpClient | undefined; readonly onFailed: () => void },
): GuestAccess {
  const { record, paths, logs, log } = vm;
  const agent = new AgentLine(paths.agent);
  const user = record.exec?.user;
  // At the first console of such a VM people work.
  const reserved = record.interactiveConsole === true ? [0] : [];
  return {
    agent,
    commands: new GuestCommands({ agent, dir: paths.exec, qmp, reserved, user, log }),
    progress: new GuestProgress({
      ...vm,
      path: paths.progress,
      agent,
      console: logs.console,
      onFailed,
    }),
    act: (action, waiting) => act(action, { qmp: qmp(), agent }, waiting),
  };
}
