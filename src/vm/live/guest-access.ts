import type { QmpClient, QmpEvent } from '#qmp';
import type { Waiting } from '#spec';
import { OperatorControl } from '../control/operator-control.ts';
import { VmError } from '../error.ts';
import { AgentCommands } from '../guest/agent-commands.ts';
import { AgentLine } from '../guest/agent-line.ts';
import { GuestCommands } from '../guest/guest-commands.ts';
import { noSsh, SshCommands } from '../guest/ssh-commands.ts';
import type { CommandWay } from '../guest/way.ts';
import { lastResetMs } from '../logs/journal.ts';
import { GuestProgress } from '../progress/guest-progress.ts';
import { nicsOf, sshOf, type VmRecord } from '../store/record.ts';
import type { DomainState, ExecRequest, GuestAction, GuestCommand } from '../virtualizer.ts';
import { act } from './act.ts';
import { withGroupEnv } from './group-request.ts';
import type { LiveVm } from './live-vm.ts';

/** What reaches into the guest of one VM: its agent, the commands there, how far it has come, what is done to it as a whole. */
export interface GuestAccess extends AsyncDisposable {
  readonly agent: AgentLine;
  readonly commands: GuestCommands;
  exec(request: ExecRequest, waiting: Waiting): Promise<GuestCommand>;
  readonly progress: GuestProgress;
  readonly operators: OperatorControl;
  observe(event: QmpEvent): void;
  act(action: GuestAction, waiting: Waiting): Promise<void>;
  /** Nothing more is asked of the guest, and of QEMU for operators: the VM stops, or has another manager. */
  leave(): void;
  /** Ends what an earlier process began in the guest and did not end. */
  recover(waiting: Waiting): void;
  /** There is a connection to QEMU again. */
  resync(client: QmpClient): void;
}

export interface VmAround {
  readonly qmp: () => QmpClient | undefined;
  readonly state: () => DomainState;
  readonly onFailed: () => void;
}

export function guestAccess(vm: LiveVm, { qmp, state, onFailed }: VmAround): GuestAccess {
  const { record, paths, logs, log } = vm;
  const agent = new AgentLine(paths.agent);
  const { user, via } = record.exec ?? {};
  const opened = new AsyncDisposableStack();
  opened.use(agent);
  // At the first console of such a VM people work.
  const reserved = record.interactiveConsole === true ? [0] : [];
  const alone = via === 'agent' || sshOf(record) === undefined;
  const { exec: dir, agentCommands: commandsDir } = paths;
  const own = { dir, commandsDir, reserved, user, alone };
  const byAgent = opened.use(new AgentCommands({ ...own, agent, qmp, log }));
  const ways = [
    ['agent', byAgent],
    ['ssh', waySsh(vm, opened)],
  ] as const;
  const commands = new GuestCommands(ways.filter(([name]) => via === undefined || via === name));
  const operators = new OperatorControl({
    ...vm,
    qmp,
    agent,
    onFileGrowth: (bytes) => vm.containment?.diskGrows(bytes),
  });
  const progress = new GuestProgress({
    ...vm,
    path: paths.progress,
    agent,
    console: logs.console,
    onFailed,
    resetAtMs: lastResetMs(paths.journal),
  });
  return {
    agent,
    commands,
    operators,
    progress,
    async exec(request, waiting) {
      refuseUnlessRunning(state());
      const command = await commands.start(withGroupEnv(request, record), waiting);
      using opened = new DisposableStack();
      opened.use(command);
      // A stop ends only the commands that it finds.
      refuseUnlessRunning(state());
      opened.move();
      return command;
    },
    observe: (event) => {
      progress.observe(event);
      if (event.event === 'RESET') commands.reset();
    },
    act: (action, waiting) => act(action, { qmp: qmp(), agent }, waiting),
    recover: (waiting) => {
      commands.recover(waiting);
      void operators.recover();
    },
    resync: (client) => {
      progress.resync(client);
      // QEMU may have been busy when the VM was adopted.
      void operators.recover();
    },
    leave: () => {
      progress[Symbol.dispose]();
      operators[Symbol.dispose]();
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

function refuseUnlessRunning(state: DomainState): void {
  if (state === 'running') return;
  const remedy = state === 'paused' ? ': SIGCONT lets it go on' : '';
  throw new VmError('host', `no command can be run in a VM that is ${state}${remedy}`);
}

function waySsh({ record, paths, log }: LiveVm, opened: AsyncDisposableStack): CommandWay {
  const ssh = sshOf(record);
  if (ssh === undefined) return noSsh(whyNoSsh(record));
  const { uid, program, address } = ssh;
  const host = { uid, program, address, alias: record.uuid, dir: paths.ssh };
  const user = record.exec?.user;
  return opened.use(new SshCommands({ host, commandsDir: paths.sshCommands, user, log }));
}

function whyNoSsh(record: VmRecord): string {
  const known = nicsOf(record).some(({ ip }) => ip !== undefined);
  if (!known)
    return 'the VM has no network_interface in a managed network, so its address is not known';
  return 'the VM was started without a key for it: install openssh-client on the host, and restart the task';
}
