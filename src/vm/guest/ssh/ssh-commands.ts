import { randomBytes } from 'node:crypto';
import { abortable, findByUser, KeyedQueue, kill, type Logger, within } from '#host';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../../error.ts';
import { CommandFiles } from '../../store/command-files.ts';
import type { ExecRequest, GuestCommand } from '../../virtualizer.ts';
import { piecesOf, streamsOf } from '../output.ts';
import { LeftCommands, Running } from '../running.ts';
import { endProgram, type Program, sshCommandProgram } from '../scripts.ts';
import { Slots } from '../slots.ts';
import { type CommandWay, WayMissing } from '../way.ts';
import { SshCommand } from './ssh-command.ts';
import { begun, closeStreams, SshConnection, type SshHost, tooLate } from './ssh-connection.ts';
import { loaded, loaderCommand } from './ssh-scripts.ts';

const startMs = 20_000;
const endMs = 10_000;
/** An sshd that does not answer ends it earlier. */
const recoverMs = 60_000;

export interface SshOptions {
  readonly host: SshHost;
  /** Directory of a file for each command that runs, by which the next plugin process finds it. */
  readonly commandsDir: string;
  /** As the job configures it. */
  readonly user: string | undefined;
  readonly log: Logger;
}

/** The commands in one VM's guest that the host's ssh starts. */
export class SshCommands implements CommandWay, AsyncDisposable {
  readonly #options: SshOptions;
  /** sshd takes ten sessions on a connection; what is left is for ending commands. */
  readonly #slots = new Slots();
  readonly #aside = new KeyedQueue();
  readonly #running = new Running<SshCommand>();
  readonly #files: CommandFiles;
  readonly #left: LeftCommands;
  #connection: Promise<SshConnection> | undefined;
  #ready: Promise<void> = Promise.resolve();
  #disposed = false;

  constructor(options: SshOptions) {
    this.#options = options;
    this.#files = new CommandFiles(options.commandsDir);
    this.#left = new LeftCommands({
      end: (session, waiting) => this.#run(endProgram(session), waiting),
      files: this.#files,
      log: options.log,
    });
  }

  recover(waiting: Waiting): void {
    this.#ready = this.#recover(waiting).catch((error: unknown) =>
      this.#options.log.warn('commands left in the guest', { error: messageOf(error) }),
    );
  }

  async start(request: ExecRequest, waiting: Waiting): Promise<GuestCommand> {
    await abortable(this.#ready, waiting);
    using limited = within(startMs, waiting);
    await this.#slots.take(limited, waiting);
    const session = randomBytes(8).toString('hex');
    try {
      return await this.#begin(request, session, limited);
    } catch (error) {
      // It has no program yet, and ends with its connection: there is nothing to end in the guest.
      this.#slots.give(0);
      waiting.signal.throwIfAborted();
      throw limited.signal.aborted ? tooLate(startMs, error) : error;
    }
  }

  /** A session that stays open may hold up the guest's shutdown. */
  async end(waiting: Waiting): Promise<void> {
    await this.#running.end(waiting);
    await abortable(this.#close(), waiting);
  }

  reset(): void {
    this.#left.clear();
    this.#running.reset();
    void this.#close().catch(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#left[Symbol.dispose]();
    await this.#close();
  }

  async #close(): Promise<void> {
    await (await this.#connection?.catch(() => undefined))?.close();
  }

  async #begin(
    request: ExecRequest,
    session: string,
    waiting: Waiting,
    again = true,
  ): Promise<GuestCommand> {
    const { command, env, terminal } = request;
    const { user, log } = this.#options;
    const connection = await this.#connected(waiting);
    const loader = loaderCommand(session);
    const atTerminal = terminal ? await connection.runAtTerminal(loader) : undefined;
    const process = atTerminal ?? (await connection.run(loader));
    const { input, outputs } = process;
    const pieces = piecesOf(streamsOf(outputs, { session, terminal }));
    try {
      await begun(pieces, terminal, waiting);
      // Before it has its program, so that none runs that the next plugin process does not know.
      await this.#files.add(session);
      log.debug('command started in the guest', { session, way: 'ssh' });
      const own = { session, command, env, terminal, ...(user === undefined ? {} : { user }) };
      const started: SshCommand = new SshCommand({
        process,
        input,
        outputs,
        pieces,
        greeting: (size) => {
          // In the guest as well: the new size is on its way beside the program, which may arrive first.
          atTerminal?.resize(size);
          return loaded(session, sshCommandProgram(own, size));
        },
        resize: atTerminal && (async (size) => atTerminal.resize(size)),
        onDispose: (ended) => {
          void process.end().catch(() => {});
          this.#running.leave(started, this.#leave(session, !ended));
        },
        log,
      });
      this.#running.add(started);
      return started;
    } catch (error) {
      closeStreams(process);
      await process.end();
      // Nor would the next command begin on it. It may have ended just now; nothing has run on it, so a new one is tried.
      await connection.close();
      if (!again || !(error instanceof WayMissing)) throw error;
      return await this.#begin(request, session, waiting, false);
    }
  }

  async #connected(waiting: Waiting): Promise<SshConnection> {
    if (this.#disposed) throw new VmError('host', 'the VM has ended');
    this.#connection ??= this.#connect();
    const opening = this.#connection;
    const connection = await abortable(opening, waiting);
    if (connection.open) return connection;
    if (this.#connection === opening) this.#connection = undefined;
    return await this.#connected(waiting);
  }

  /** Not limited by one command that waits for it: others may wait as well. */
  #connect(): Promise<SshConnection> {
    const opening = SshConnection.open(this.#options.host);
    opening.catch(() => {
      if (this.#connection === opening) this.#connection = undefined;
    });
    return opening;
  }

  /** Never rejects. The slot is free afterwards. */
  async #leave(session: string, runs: boolean): Promise<void> {
    using limited = within(endMs);
    if (runs && !this.#disposed) await this.#endOrAgain(session, limited);
    else await this.#files.remove(session).catch(() => {});
    this.#slots.give(0);
  }

  /** Never rejects. */
  async #endOrAgain(session: string, waiting: Waiting): Promise<void> {
    try {
      await this.#run(endProgram(session), waiting);
      await this.#files.remove(session);
    } catch (error) {
      await this.#left.add(session, error);
    }
  }

  /** One at a time. Throws where it does not succeed. */
  async #run(program: Program, waiting: Waiting): Promise<void> {
    await this.#aside.run('aside', async () => {
      waiting.signal.throwIfAborted();
      const session = randomBytes(8).toString('hex');
      const connection = await this.#connected(waiting);
      const process = await connection.run(loaderCommand(session));
      try {
        for (const stream of process.outputs.values()) stream.resume();
        process.input.end(loaded(session, program));
        const { code } = await abortable(process.exit, waiting);
        if (code !== 0) throw new VmError('host', `it ended with ${code} in the guest`);
      } finally {
        await process.end();
        closeStreams(process);
      }
    });
  }

  async #recover(waiting: Waiting): Promise<void> {
    using limited = within(recoverMs, waiting);
    const { host, log } = this.#options;
    for (const left of await findByUser(host.uid, limited)) await kill(left, limited);
    for (const session of await this.#files.sessions()) {
      log.info('ending a command that an earlier process started', { session });
      await this.#endOrAgain(session, limited);
    }
  }
}

/** ssh where the start of the VM did not prepare it. */
export function noSsh(reason: string): CommandWay {
  return {
    recover: () => {},
    end: async () => {},
    reset: () => {},
    start: () => Promise.reject(new WayMissing(reason)),
  };
}
