import { VmError } from '../../error.ts';
import { type CommandStreams, exitOf, StreamedCommand } from '../streamed-command.ts';
import type { SshProcess, SshStream } from './ssh-connection.ts';

/** Of ssh itself, where it has no exit code of the command. */
const lostCode = 255;

export interface StartedBySsh extends CommandStreams<SshStream> {
  readonly process: SshProcess;
  /** Ends what of the command still runs, unless it has ended. */
  readonly onDispose: (ended: boolean) => void;
}

/** A command that sshd started in the guest, with the streams of a process of ssh. */
export class SshCommand extends StreamedCommand<SshStream> {
  readonly #command: StartedBySsh;

  constructor(command: StartedBySsh) {
    super(command);
    this.#command = command;
    if (command.resize === undefined) this.begin();
  }

  protected override leave(): void {
    this.#command.onDispose(this.ended || this.wasReset);
  }

  /** A command that was killed with all its shells leaves no mark; else the connection has ended. */
  protected override async endWithoutMark(): Promise<void> {
    const { code } = await this.#command.process.exit;
    if (code !== null && code !== lostCode) return this.settle(exitOf(code));
    const message = 'the command was lost: it was killed in the guest, or the connection ended';
    this.lose(new VmError('host', message));
  }
}
