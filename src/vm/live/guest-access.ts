import type { QmpClient, QmpEvent } from '#qmp';
import type { Waiting } from '#spec';
import { OperatorControl } from '../control/operator-control.ts';
import { VmError } from '../error.ts';
import { AgentCommands } from '../guest/agent/agent-commands.ts';
import { AgentLine } from '../guest/agent/agent-line.ts';
import { GuestCommands, type WayName } from '../guest/guest-commands.ts';
import { noSsh, SshCommands } from '../guest/ssh/ssh-commands.ts';
import type { CommandWay } from '../guest/way.ts';
import { lastResetMs } from '../logs/journal.ts';
import { GuestProgress } from '../progress/guest-progress.ts';
import { nicsOf, sshOf, type VmRecord } from '../store/record.ts';
import type { DomainState, ExecRequest, GuestAction, GuestCommand } from '../virtualizer.ts';
import { act } from './act.ts';
import { withGroupEnv } from './group-request.ts';
import type { LiveVm } from './live-vm.ts';

export interface VmAround {
  readonly qmp: () => QmpClient | undefined;
  readonly state: () => DomainState;
  readonly onFailed: () => void;
}

/** What reaches into the guest of one VM: its agent, the commands there, how far it has come, what is done to it as a whole. */
export class GuestAccess implements AsyncDisposable {
  readonly agent: AgentLine;
  readonly commands: GuestCommands;
  readonly progress: GuestProgress;
  readonly operators: OperatorControl;
  readonly #record: VmRecord;
  readonly #around: VmAround;
  readonly #opened = new AsyncDisposableStack();

  constructor(vm: LiveVm, around: VmAround) {
    const { record, paths, logs, containment } = vm;
    const { qmp, onFailed } = around;
    this.#record = record;
    this.#around = around;
    this.agent = this.#opened.use(new AgentLine(paths.agent));
    const { agent } = this;
    this.commands = new GuestCommands(this.#ways(vm));
    const onFileGrowth = (bytes: number): void => containment?.diskGrows(bytes);
    this.operators = new OperatorControl({ ...vm, qmp, agent, onFileGrowth });
    this.progress = new GuestProgress({
      ...vm,
      path: paths.progress,
      agent,
      console: logs.console,
      onFailed,
      resetAtMs: lastResetMs(paths.journal),
    });
  }

  /** The ways that the job leaves to commands. */
  #ways(vm: LiveVm): readonly (readonly [WayName, CommandWay])[] {
    const { record, paths, log } = vm;
    const { user, via } = record.exec ?? {};
    const byAgent = new AgentCommands({
      dir: paths.exec,
      commandsDir: paths.agentCommands,
      // At the first console of such a VM people work.
      reserved: record.interactiveConsole === true ? [0] : [],
      user,
      alone: via === 'agent' || sshOf(record) === undefined,
      agent: this.agent,
      qmp: this.#around.qmp,
      log,
    });
    const ways = [
      ['agent', this.#opened.use(byAgent)],
      ['ssh', waySsh(vm, this.#opened)],
    ] as const;
    return ways.filter(([name]) => via === undefined || via === name);
  }

  async exec(request: ExecRequest, waiting: Waiting): Promise<GuestCommand> {
    const { state } = this.#around;
    refuseUnlessRunning(state());
    const command = await this.commands.start(withGroupEnv(request, this.#record), waiting);
    using opened = new DisposableStack();
    opened.use(command);
    // A stop ends only the commands that it finds.
    refuseUnlessRunning(state());
    opened.move();
    return command;
  }

  observe(event: QmpEvent): void {
    this.progress.observe(event);
    if (event.event === 'RESET') this.commands.reset();
  }

  act(action: GuestAction, waiting: Waiting): Promise<void> {
    return act(action, { qmp: this.#around.qmp(), agent: this.agent }, waiting);
  }

  /** Ends what an earlier process began in the guest and did not end. */
  recover(waiting: Waiting): void {
    this.commands.recover(waiting);
    void this.operators.recover();
  }

  /** There is a connection to QEMU again. */
  resync(client: QmpClient): void {
    this.progress.resync(client);
    // QEMU may have been busy when the VM was adopted.
    void this.operators.recover();
  }

  /** Nothing more is asked of the guest, and of QEMU for operators: the VM stops, or has another manager. */
  leave(): void {
    this.progress[Symbol.dispose]();
    this.operators[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#opened.disposeAsync();
  }
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
