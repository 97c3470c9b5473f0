import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { connect as connectSocket, type Socket } from 'node:net';
import { printable, type Waiting } from '#spec';
import { type AgentCommands, decodeAgentAnswer } from './agent-commands.ts';
import { QmpError } from './error.ts';
import { FrameReader } from './frame.ts';
import { parseJson } from './message.ts';

/** Commands that the agent answers only when it refuses them. */
interface AgentOrders {
  'guest-shutdown': { readonly mode: 'powerdown' | 'halt' | 'reboot' };
}

/** Maximum length of a line from a guest: answers to the commands sent here have a few hundred bytes. */
const maxAnswerBytes = 64 * 1024;

/** Late answers to earlier commands, and the rest of one. A guest may send lines without end, faster than they are read. */
const maxStrayLines = 100;

const maxReasonLength = 200;

/** The agent's parser restarts at this byte, and puts it before its answer to a delimited sync. */
const restart = 0xff;

/**
 * A session with qemu-guest-agent, over the socket behind its serial port. What it sends is under the guest's control:
 * it is bounded in size and time, decoded, and nothing on the host may depend on it.
 */
export class GuestAgent implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #lines: AsyncGenerator<string>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = linesOf(socket);
  }

  /**
   * Connects and synchronizes: late answers to commands of an earlier session may come first. Throws QmpError `connect`
   * where nothing listens, `timeout` where no agent answers before the signal aborts, `closed`, `protocol`.
   */
  static async connect(path: string, { signal }: Waiting): Promise<GuestAgent> {
    const socket = connectSocket({ path });
    socket.on('error', () => {});
    // Destroying the socket ends every read from it.
    const abort = (): void => void socket.destroy();
    signal.addEventListener('abort', abort, { once: true });
    try {
      await once(socket, 'connect', { signal });
      const agent = new GuestAgent(socket);
      await agent.#synchronize();
      return agent;
    } catch (cause) {
      socket.destroy();
      if (signal.aborted) {
        throw new QmpError('timeout', 'the guest agent did not answer', { cause: signal.reason });
      }
      if (cause instanceof QmpError) throw cause;
      throw new QmpError('connect', `no guest agent's socket at ${path}`, { cause });
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** false once the session has ended, which every failure but a refusal brings about. */
  get open(): boolean {
    return !this.#socket.destroyed;
  }

  /**
   * Sends a command and awaits its answer; one at a time. Throws QmpError `command` with the agent's reason when it
   * refuses. After any other failure the session is over, since a late answer would be taken for that to the next
   * command: `timeout` when the signal aborts first, `closed`, `protocol`.
   */
  async execute<C extends keyof AgentCommands>(
    command: C,
    parameters: AgentCommands[C]['arguments'],
    waiting: Waiting,
  ): Promise<AgentCommands[C]['return']> {
    try {
      const answer = await this.#ask(command, parameters, waiting);
      refuseErrors(command, answer);
      return decodeAgentAnswer(command, answer.return);
    } catch (error) {
      if (!(error instanceof QmpError) || error.code !== 'command') this.#socket.destroy();
      if (!waiting.signal.aborted) throw error;
      const cause = waiting.signal.reason;
      throw new QmpError('timeout', `the guest agent did not answer ${command}`, { cause });
    }
  }

  /**
   * Sends a command that is answered only when it is refused, as guest-shutdown is. Returns when the signal
   * aborts or the session ends; throws QmpError `command` with the agent's reason when it refuses.
   */
  async order<C extends keyof AgentOrders>(
    command: C,
    parameters: AgentOrders[C],
    waiting: Waiting,
  ): Promise<void> {
    try {
      refuseErrors(command, await this.#ask(command, parameters, waiting));
    } catch (error) {
      if (!(error instanceof QmpError) || error.code !== 'closed') throw error;
    }
  }

  async #ask(
    command: string,
    parameters: object,
    { signal }: Waiting,
  ): Promise<Readonly<Record<string, unknown>>> {
    const abort = (): void => void this.#socket.destroy();
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    try {
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: parameters })}\n`);
      return await this.#answer();
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    if (!this.#socket.closed) await once(this.#socket, 'close').catch(() => {});
  }

  async #synchronize(): Promise<void> {
    const id = randomInt(1, 2 ** 47);
    const command = { execute: 'guest-sync-delimited', arguments: { id } };
    this.#socket.write(Buffer.from([restart]));
    this.#socket.write(`${JSON.stringify(command)}\n`);
    for (let lines = 0; lines < maxStrayLines; lines += 1) {
      const answer = await this.#answer().catch(unlessClosed);
      if (answer?.return === id) return;
    }
    throw new QmpError('protocol', 'the guest agent keeps sending lines that answer no command');
  }

  async #answer(): Promise<Readonly<Record<string, unknown>>> {
    const answer = parseJson(await this.#line());
    if (typeof answer === 'object' && answer !== null) return { ...answer };
    throw new QmpError('protocol', 'the guest agent sent something that is no answer');
  }

  async #line(): Promise<string> {
    try {
      const { value, done } = await this.#lines.next();
      if (done !== true) return value;
    } catch (cause) {
      // The stream's own error is that the socket was destroyed.
      if (cause instanceof QmpError) throw cause;
    }
    throw new QmpError('closed', 'the connection to the guest agent is closed');
  }
}

/** Before the sync is complete, any line may be the rest of an earlier one; the deadline bounds their number. */
function unlessClosed(error: unknown): undefined {
  if (!(error instanceof QmpError) || error.code === 'closed') throw error;
}

/** Lines of text; each ends at a line feed, and a restart byte discards everything before it. */
async function* linesOf(socket: Socket): AsyncGenerator<string> {
  let frames = new FrameReader({ maxBytes: maxAnswerBytes });
  for await (const chunk of socket) {
    const bytes: Uint8Array = chunk;
    const from = bytes.lastIndexOf(restart) + 1;
    if (from > 0) frames = new FrameReader({ maxBytes: maxAnswerBytes });
    yield* frames.push(bytes.subarray(from));
  }
}

function refuseErrors(command: string, answer: Readonly<Record<string, unknown>>): void {
  const { error } = answer;
  if (typeof error !== 'object' || error === null) return;
  const reason =
    'desc' in error && typeof error.desc === 'string' ? printable(error.desc, maxReasonLength) : '';
  throw new QmpError('command', `the guest agent refused ${command}: ${reason}`);
}
