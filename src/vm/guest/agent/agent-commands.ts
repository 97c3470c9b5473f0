import { randomBytes } from 'node:crypto';
import { abortable, KeyedQueue, type Logger, pause, within } from '#host';
import { type QmpClient, QmpError } from '#qmp';
import type { Waiting } from '#spec';
import { messageOf, VmError } from '../../error.ts';
import { CommandFiles } from '../../store/command-files.ts';
import type { ExecRequest, GuestCommand } from '../../virtualizer.ts';
import { beginningOf, endsOf, piecesOf, streamsOf } from '../output.ts';
import { LeftCommands, Running } from '../running.ts';
import { commandProgram, endProgram, streamsGreeting } from '../scripts.ts';
import { Slots } from '../slots.ts';
import { type CommandWay, guestWasReset, type StartRequest, WayMissing } from '../way.ts';
import { AgentCommand, runToEnd } from './agent-command.ts';
import type { AgentLine } from './agent-line.ts';
import { agentMissing, type StartTime, withAgent } from './agent-missing.ts';
import { AgentPatience, startMs } from './agent-patience.ts';
import { leftPorts, type PortPlace, Ports } from './ports.ts';

const endMs = 10_000;
const recoverMs = 20_000;
const pollMs = 250;
const pingMs = 1000;

export interface AgentOptions {
  readonly agent: AgentLine;
  /** Directory of the sockets of the streams. */
  readonly dir: string;
  /** Directory of a file for each command that could not be ended, by which the next plugin process finds it. */
  readonly commandsDir: string;
  /** undefined while there is no connection. */
  readonly qmp: () => QmpClient | undefined;
  /** Numbers of the guest's consoles that are not for commands. */
  readonly reserved: readonly number[];
  /** As the job configures it. */
  readonly user: string | undefined;
  /** Commands have no other way into the guest. */
  readonly alone: boolean;
  readonly log: Logger;
}

/** The commands in one VM's guest that its agent starts. */
export class AgentCommands implements CommandWay, Disposable {
  readonly #options: AgentOptions;
  readonly #slots = new Slots();
  readonly #ports: Ports;
  /**
   * Commands begin one after the other, and so do ports leave: QEMU drops messages to the guest about ports when the
   * guest has not read the last thirty. And two that look for their terminals would disturb each other.
   */
  readonly #plugging = new KeyedQueue();
  readonly #running = new Running<AgentCommand>();
  readonly #files: CommandFiles;
  readonly #left: LeftCommands;
  readonly #taken: Set<number>;
  #patience: AgentPatience;
  /** Aborts when the guest boots again. */
  #boot = new AbortController();
  #ready: Promise<void> = Promise.resolve();

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#ports = new Ports(options);
    this.#taken = new Set(options.reserved);
    this.#patience = new AgentPatience(options.alone);
    this.#files = new CommandFiles(options.commandsDir);
    const end = this.#endAlone.bind(this);
    this.#left = new LeftCommands({ end, files: this.#files, log: options.log });
  }

  recover(waiting: Waiting): void {
    this.#ready = this.#recover(waiting).catch((error: unknown) =>
      this.#options.log.warn('commands left in the guest', { error: messageOf(error) }),
    );
  }

  async start(request: StartRequest, waiting: Waiting): Promise<GuestCommand> {
    const qmp = await this.#answering(waiting);
    await abortable(this.#ready, waiting);
    const slot = await this.#slot(request, waiting);
    const boot = this.#boot.signal;
    using turn = within(startMs, { signal: AbortSignal.any([waiting.signal, boot]) });
    const session = randomBytes(8).toString('hex');
    let time: StartTime = { startMs, early: false };
    try {
      return await this.#plugging.run('plug', async () => {
        turn.signal.throwIfAborted();
        // Known now: those before it may have shown that none begins.
        time = this.#patience.startTime(request);
        const begin = (limited: Waiting) => this.#begin(request, { session, slot, qmp }, limited);
        return await this.#patience.limit({ ms: time.startMs, or: 'idle' }, begin, turn);
      });
    } catch (error) {
      const isRefused = error instanceof QmpError && error.code === 'command';
      void this.#abandon({ slot, session }, { mayRun: !isRefused && !boot.aborted });
      waiting.signal.throwIfAborted();
      boot.throwIfAborted();
      throw agentMissing(error, time);
    }
  }

  async #slot(request: StartRequest, waiting: Waiting): Promise<number> {
    const { stuck } = this.#patience;
    using limited = within(this.#patience.slotMs(request), waiting);
    try {
      return await this.#slots.take(limited, waiting);
    } catch (error) {
      if (!stuck || !(error instanceof VmError)) throw error;
      throw new WayMissing(error.message, { cause: error, recoverable: true });
    }
  }

  async end(waiting: Waiting): Promise<void> {
    await this.#running.end(waiting);
  }

  reset(): void {
    this.#left.clear();
    this.#running.reset();
    this.#boot.abort(guestWasReset());
    this.#boot = new AbortController();
    // The agent that was slow, or hung, is no more.
    this.#patience = new AgentPatience(this.#options.alone);
  }

  [Symbol.dispose](): void {
    this.#left[Symbol.dispose]();
  }

  async #answering(waiting: Waiting): Promise<QmpClient> {
    const ask = async (limited: Waiting): Promise<QmpClient> => {
      const qmp = await withAgent(this.#options.qmp(), limited);
      await this.#options.agent.use((it) => it.execute('guest-ping', {}, limited), {}, limited);
      return qmp;
    };
    try {
      const ms = this.#patience.answerMs;
      return await this.#patience.limit({ ms, or: 'silent' }, ask, waiting);
    } catch (error) {
      waiting.signal.throwIfAborted();
      if (!this.#patience.stuck) throw agentMissing(error, { startMs, early: false });
      const message = 'the guest agent is connected, but does not answer';
      throw new WayMissing(message, { cause: error, recoverable: true });
    }
  }

  async #begin(
    { command, env, terminal }: ExecRequest,
    { session, slot, qmp }: Place & { readonly qmp: QmpClient },
    waiting: Waiting,
  ): Promise<GuestCommand> {
    const { agent, dir, user, log } = this.#options;
    const sockets = await this.#ports.plug({ dir, slot, session, terminal }, qmp, waiting);
    try {
      const { input, outputs } = endsOf(sockets);
      const own = { session, command, env, terminal, ...(user === undefined ? {} : { user }) };
      const program = commandProgram(own, [...this.#taken]);
      if (!terminal) input.write(streamsGreeting);
      const { pid } = await agent.use(
        (it) => it.execute('guest-exec', program, waiting),
        {},
        waiting,
      );
      log.debug('command started in the guest', { session, pid, way: 'agent' });
      const streams = streamsOf(outputs, { session, terminal });
      const begun = await beginningOf(streams.get('out'), waiting);
      const number = terminal ? begun : undefined;
      if (number !== undefined) this.#taken.add(number);
      const left = async (finished: Promise<void>): Promise<void> => {
        await finished.catch((error: unknown) => this.#left.add(session, error));
        await this.#leave({ slot, session }, number);
      };
      const started: AgentCommand = new AgentCommand({
        session,
        pid,
        terminal: number,
        input,
        outputs,
        pieces: piecesOf(streams),
        agent,
        log,
        onDispose: (finished) => this.#running.leave(started, left(finished)),
      });
      this.#running.add(started);
      return started;
    } catch (error) {
      for (const socket of sockets.values()) socket.destroy();
      throw error;
    }
  }

  /** After a start that failed; the agent may have started the command nevertheless. */
  async #abandon(place: Place, { mayRun }: { readonly mayRun: boolean }): Promise<void> {
    using limited = within(endMs);
    if (mayRun) await this.#end(place.session, limited);
    await this.#leave(place);
  }

  /** Never rejects. */
  async #end(session: string, waiting: Waiting): Promise<void> {
    try {
      await runToEnd(endProgram(session), this.#options.agent, waiting);
      await this.#files.remove(session);
    } catch (error) {
      await this.#left.add(session, error);
    }
  }

  /** While no caller waits for it: an agent that hangs must not keep a stop from its turn. */
  async #endAlone(session: string, waiting: Waiting): Promise<void> {
    const { agent } = this.#options;
    using limited = within(pingMs, waiting);
    await agent.use((it) => it.execute('guest-ping', {}, limited), {}, limited);
    await runToEnd(endProgram(session), agent, waiting);
  }

  /** Removes the ports of a command; never rejects. The slot is free afterwards. */
  async #leave(place: Place, terminal?: number): Promise<void> {
    // The guest gives a console's number to the next one before this process knows that it is free.
    const turn = terminal === undefined ? 'unplug' : 'plug';
    await this.#plugging.run(turn, async () => {
      await this.#ports.unplug(place);
      if (terminal !== undefined) this.#taken.delete(terminal);
    });
    this.#slots.give(place.slot);
  }

  async #recover(waiting: Waiting): Promise<void> {
    using limited = within(recoverMs, waiting);
    const { log } = this.#options;
    const left = await this.#files.sessions();
    const qmp = await this.#connection(limited);
    const places = await leftPorts(qmp, limited);
    for (const session of new Set([...places.keys(), ...left])) {
      log.info('ending a command that an earlier process started', { session });
      await this.#end(session, limited);
      const slot = places.get(session);
      if (slot !== undefined) await this.#ports.unplug({ slot, session });
    }
  }

  async #connection(waiting: Waiting): Promise<QmpClient> {
    for (;;) {
      const client = this.#options.qmp();
      if (client !== undefined) return client;
      await pause(pollMs, waiting);
    }
  }
}

type Place = Pick<PortPlace, 'session' | 'slot'>;
