import type { MessageInitShape } from '@bufbuild/protobuf';
import { slept, within } from '#host';
import type { Waiting } from '#spec';
import type { Domain, GuestCommand, TerminalSize } from '#vm';
import { PluginError } from '../error/plugin-error.ts';
import type {
  ExecTaskResponseSchema,
  ExecTaskStreamingRequest,
  ExecTaskStreamingResponseSchema,
} from '../gen/driver_pb.ts';
import type { Task } from '../tasks/tasks.ts';

/** Where a command runs, and with which environment. */
type TaskToReach = Pick<Task, 'env'> & { readonly domain: Pick<Domain, 'exec'> };
type Response = MessageInitShape<typeof ExecTaskStreamingResponseSchema>;

/** As much of the end of a check's output is kept as Nomad's own executor keeps. */
const keptBytes = 4096;
/** A command whose user has gone away is ended after this time twice. */
const silentMs = 3000;

/** Runs a command to its end; what it prints comes together, as with Nomad's own drivers. */
export async function execTask(
  task: TaskToReach,
  { command, timeoutMs }: { readonly command: readonly string[]; readonly timeoutMs: number },
  call: Waiting,
): Promise<MessageInitShape<typeof ExecTaskResponseSchema>> {
  using limited = timeoutMs > 0 ? within(timeoutMs, call) : undefined;
  const waiting = limited ?? call;
  let begun = false;
  try {
    using running = await begin(task, { command, terminal: false }, waiting);
    begun = true;
    // What still runs when the time is up is ended by this, and its output with it.
    using _ended = onAbort(waiting, () => running[Symbol.dispose]());
    running.endInput();
    let kept = Buffer.alloc(0);
    for await (const { data } of running.output) {
      kept = Buffer.concat([kept, data]).subarray(-keptBytes);
    }
    const { exitCode, signal } = await running.exit(waiting);
    return { stdout: kept, result: { exitCode, signal } };
  } catch (cause) {
    if (!waiting.signal.aborted) throw cause;
    call.signal.throwIfAborted();
    const time = `within ${timeoutMs / 1000} s`;
    const message = begun
      ? `the command did not end ${time} and was ended`
      : `the command did not begin ${time}: the guest is busy, starts up, or its agent hangs`;
    throw new PluginError('state', message, { cause });
  }
}

/**
 * Runs a command with the streams, or the terminal, of a user. It is ended in the guest when the user goes away. After
 * all output come the ends of the streams, then the exit.
 */
export async function* execStreaming(
  requests: AsyncIterable<ExecTaskStreamingRequest>,
  taskOf: (id: string) => TaskToReach,
  call: Waiting,
): AsyncGenerator<Response> {
  const incoming = requests[Symbol.asyncIterator]();
  const { value: first } = await incoming.next();
  const setup = first?.setup;
  if (setup === undefined) throw new PluginError('invalid', 'first message should always be setup');
  const { command, tty: terminal } = setup;
  using running = await begin(taskOf(setup.taskId), { command, terminal }, call);
  using _ended = onAbort(call, () => running[Symbol.dispose]());
  // The client need not end its side, so that this may wait until the call is over.
  void feed(running, incoming, call).catch(() => running.endInput());
  for await (const piece of neverSilent(running.output)) {
    yield piece === undefined ? {} : { [piece.stream]: { data: piece.data } };
  }
  const { exitCode, signal } = await running.exit(call);
  yield { stdout: { close: true } };
  yield { stderr: { close: true } };
  yield { exited: true, result: { exitCode, signal } };
}

/**
 * The output, and undefined from time to time while there is none. Nomad looks after a user who may have gone away only when
 * something comes from the command; an empty message is nothing to its clients.
 */
async function* neverSilent<T>(output: AsyncIterable<T>): AsyncGenerator<T | undefined> {
  const coming = output[Symbol.asyncIterator]();
  for (;;) {
    const there = new AbortController();
    // Listened to once: a command may be silent for months.
    const next = coming.next().finally(() => there.abort());
    // It is reported to the one who awaits it below, unless the user has gone away.
    next.catch(() => undefined);
    while (await slept(silentMs, there)) yield undefined;
    const { value, done } = await next;
    if (done === true) return;
    yield value;
  }
}

async function begin(
  { domain, env }: TaskToReach,
  { command, terminal }: { readonly command: readonly string[]; readonly terminal: boolean },
  waiting: Waiting,
): Promise<GuestCommand> {
  if (command.length === 0) throw new PluginError('invalid', 'the request has no command');
  if (command.some((argument) => argument.includes('\0'))) {
    throw new PluginError(
      'invalid',
      'an argument of the command has a NUL byte, which no program can get',
    );
  }
  return await domain.exec({ command, env, terminal }, waiting);
}

/** Input and sizes, in their order; the next message is not read before this one is on its way. */
async function feed(
  running: GuestCommand,
  incoming: AsyncIterator<ExecTaskStreamingRequest>,
  call: Waiting,
): Promise<void> {
  for (;;) {
    const { value, done } = await incoming.next();
    if (done === true) return;
    const { ttySize, stdin } = value;
    const size = ttySize && sizeOf(ttySize.height, ttySize.width);
    if (size !== undefined) running.resize(size);
    if (stdin !== undefined && stdin.data.length > 0) await running.write(stdin.data, call);
    if (stdin?.close === true) running.endInput();
  }
}

const maxSize = 0xffff;

/** A client without a terminal of its own sends zeros. */
function sizeOf(rows: number, columns: number): TerminalSize | undefined {
  const valid = rows > 0 && columns > 0 && rows <= maxSize && columns <= maxSize;
  return valid ? { rows, columns } : undefined;
}

function onAbort({ signal }: Waiting, act: () => void): Disposable {
  signal.addEventListener('abort', act, { once: true });
  if (signal.aborted) act();
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', act) };
}
