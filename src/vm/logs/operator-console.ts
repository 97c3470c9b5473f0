import { rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Logger, listenUnix } from '#host';
import { messageOf } from '../error.ts';
import type { VmPaths } from '../store/paths.ts';
import { LogRelay } from './log-relay.ts';
import { readTail } from './log-tail.ts';

/** What an operator sees of the time before. */
const keptBytes = 64 * 1024;
/** Unsent bytes at which an operator who does not read misses output. */
const maxUnsentBytes = 256 * 1024;

/** Maximum that the history uses of the VM's tmpfs, as long as a plugin runs. */
export const operatorHistoryBytes = 256 * 1024;

export type OperatorPaths = Pick<VmPaths, 'consoleSocket' | 'hvcSocket' | 'hvcLog'>;

/**
 * The guest's interactive console for operators: each that connects gets what was written before, then what is written,
 * and types into it. QEMU writes the history, so it is complete whether or not there is an operator, or a plugin. All that
 * is shown comes from there: of what QEMU writes to its socket it drops what is not read at once, so the guest never waits.
 */
export class OperatorConsole implements AsyncDisposable {
  readonly #paths: OperatorPaths;
  readonly #log: Logger;
  readonly #history: LogRelay;
  readonly #server: Server;
  readonly #operators: Set<Socket>;
  /** Connected as long as there are operators, for what they type: QEMU serves one client. */
  #guest: Socket | undefined;

  private constructor(
    paths: OperatorPaths,
    {
      history,
      operators,
      fd,
    }: { readonly history: LogRelay; readonly operators: Set<Socket>; readonly fd: number },
    log: Logger,
  ) {
    this.#paths = paths;
    this.#history = history;
    this.#operators = operators;
    this.#log = log;
    this.#server = createServer((operator) => this.#attach(operator));
    this.#server.on('error', (error) => log.warn('console not served', { error: error.message }));
    this.#server.listen({ fd });
    this.#server.unref();
  }

  /** Takes the place of another plugin process at the socket. Throws HostError. */
  static open(
    paths: OperatorPaths,
    log: Logger,
    onGrowth: (bytes: number) => void,
  ): OperatorConsole {
    const { consoleSocket, hvcLog } = paths;
    rmSync(consoleSocket, { force: true });
    const fd = listenUnix(consoleSocket);
    const mark = `${hvcLog}.mark`;
    const operators = new Set<Socket>();
    const history = LogRelay.open({
      history: hvcLog,
      mark,
      sink: undefined,
      keptBytes,
      hurry: () => operators.size > 0,
      log,
      onGrowth,
      onOutput: (bytes) => show(bytes, operators),
    });
    return new OperatorConsole(paths, { history, operators, fd }, log);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#showRest();
    for (const operator of this.#operators) operator.destroy();
    const guest = this.#guest;
    this.#guest = undefined;
    guest?.destroy();
    await this.#history[Symbol.asyncDispose]();
  }

  #attach(operator: Socket): void {
    this.#log.info('operator attached to the console', { socket: this.#paths.consoleSocket });
    this.#operators.add(operator);
    operator.on('error', () => {});
    operator.once('close', () => this.#detach(operator));
    try {
      operator.write(readTail(this.#paths.hvcLog, keptBytes, this.#history.forwarded));
    } catch (error) {
      this.#log.debug('no history of the console', { error: messageOf(error) });
    }
    this.#guest ??= this.#connect();
    operator.pipe(this.#guest, { end: false });
  }

  #detach(operator: Socket): void {
    this.#operators.delete(operator);
    if (this.#operators.size > 0) return;
    // What was typed last still arrives.
    this.#guest?.destroySoon();
    this.#guest = undefined;
  }

  /** Before the console ends for those who look at it. */
  #showRest(): void {
    try {
      this.#history.flush();
    } catch (error) {
      this.#log.debug('end of the console not shown', { error: messageOf(error) });
    }
  }

  #connect(): Socket {
    const guest = connect(this.#paths.hvcSocket);
    guest.on('error', () => {});
    guest.on('data', () => {
      // A guest that writes without end leaves time for everything else.
      guest.pause();
      setImmediate(() => guest.resume());
    });
    guest.once('close', () => {
      if (this.#guest !== guest) return;
      this.#guest = undefined;
      this.#showRest();
      for (const operator of this.#operators) operator.destroySoon();
    });
    return guest;
  }
}

/** The bytes are valid during the call. */
function show(bytes: Uint8Array, operators: ReadonlySet<Socket>): void {
  const shown = operators.size > 0 ? Buffer.from(bytes) : bytes;
  for (const operator of operators) {
    if (operator.writableLength < maxUnsentBytes) operator.write(shown);
  }
}

/** None where it can't be served: that must not stop the VM. */
export function openConsole(
  paths: OperatorPaths,
  log: Logger,
  onGrowth: (bytes: number) => void,
): OperatorConsole | undefined {
  try {
    return OperatorConsole.open(paths, log, onGrowth);
  } catch (error) {
    log.warn('the interactive console is not served', { error: messageOf(error) });
    return undefined;
  }
}
