import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  create,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { aborted } from '#host';
import type { Waiting } from '#spec';
import type { GuestCommand } from '#vm';
import {
  Driver,
  type ExecTaskStreamingRequestSchema,
  type ExecTaskStreamingResponseSchema,
} from '../../src/plugin/gen/driver_pb.ts';
import { execStreaming, execTask } from '../../src/plugin/serve/exec.ts';
import { failureOf, type PluginClient } from '../support/plugin-client.ts';
import { freshId, shared, smallest, task } from './requests.ts';

const { method } = Driver;
const { execTaskStreaming } = method;
type Request = MessageInitShape<typeof ExecTaskStreamingRequestSchema>;
type Response = MessageShape<typeof ExecTaskStreamingResponseSchema>;

const sh = (script: string): string[] => ['sh', '-c', script];
const bytes = (text: string) => new TextEncoder().encode(text);
const text = (data: Uint8Array | undefined): string => Buffer.from(data ?? []).toString();

/** A stream as the agent opens it, with all that came back. */
class Exec {
  readonly messages: Response[] = [];
  readonly end: Promise<{ readonly code: number; readonly details: string }>;
  readonly #call;

  constructor(client: PluginClient) {
    this.#call = client.bidi(execTaskStreaming);
    const { promise, resolve } = Promise.withResolvers<{ code: number; details: string }>();
    this.end = promise;
    this.#call.on('data', (data: Buffer) =>
      this.messages.push(fromBinary(execTaskStreaming.output, data)),
    );
    this.#call.on('error', (error: Error & { code: number; details: string }) => resolve(error));
    this.#call.on('end', () => resolve({ code: 0, details: '' }));
  }

  send(request: Request): this {
    const message = create(execTaskStreaming.input, request);
    this.#call.write(Buffer.from(toBinary(execTaskStreaming.input, message)));
    return this;
  }

  cancel(): void {
    this.#call.cancel();
  }

  output(stream: 'stdout' | 'stderr'): string {
    return this.messages.map((message) => text(message[stream]?.data)).join('');
  }

  async until(condition: () => boolean): Promise<void> {
    for (const end = performance.now() + 10_000; !condition(); ) {
      assert.ok(performance.now() < end, JSON.stringify(this.messages.length));
      await new Promise((done) => setTimeout(done, 5));
    }
  }
}

async function startTask(
  config?: Readonly<Record<string, unknown>>,
): Promise<{ readonly client: PluginClient; readonly taskId: string }> {
  const { client } = await shared();
  const taskId = freshId();
  const env = { GREETING: 'hello' };
  await client.call(method.startTask, {
    task: task({ id: taskId, env, ...(config && { config }) }),
  });
  return { client, taskId };
}

test('P-33: input, both streams apart, the ends of both, then the exit, then an orderly end', async () => {
  const { client, taskId } = await startTask();
  const command = sh('cat; echo "$GREETING" >&2; exit 3');
  const exec = new Exec(client).send({ setup: { taskId, command } });
  exec
    .send({})
    .send({ stdin: { data: bytes('ab') } })
    .send({})
    .send({ stdin: { data: bytes('c') } });
  exec.send({ stdin: { close: true } });
  assert.equal((await exec.end).code, 0);
  assert.equal(exec.output('stdout'), 'abc');
  assert.equal(exec.output('stderr'), 'hello\n');
  const [outEnd, errEnd, exit] = exec.messages.slice(-3);
  assert.equal(outEnd?.stdout?.close, true);
  assert.equal(errEnd?.stderr?.close, true);
  assert.equal(exit?.exited, true);
  assert.equal(exit.result?.exitCode, 3);
  await client.call(method.destroyTask, { taskId, force: true });
});

test('P-33: sizes reach the terminal in their order; everything is on stdout', async () => {
  const { client, taskId } = await startTask();
  const exec = new Exec(client).send({
    setup: { taskId, command: sh('cat; echo x >&2'), tty: true },
  });
  exec.send({ ttySize: { height: 0, width: 0 } }).send({ ttySize: { height: 33, width: 101 } });
  exec.send({ ttySize: { height: 40, width: 120 } }).send({ stdin: { close: true } });
  assert.equal((await exec.end).code, 0);
  assert.equal(exec.output('stdout'), '33x101\n40x120\nx\n');
  assert.equal(exec.output('stderr'), '');
  await client.call(method.destroyTask, { taskId, force: true });
});

test('P-32: the time of a check that is up before its command begins is not the command’s fault', async () => {
  const { signal } = new AbortController();
  // As by the agent of a guest that hangs.
  const exec = async (_: unknown, waiting: Waiting): Promise<never> => {
    await aborted(waiting);
    throw waiting.signal.reason;
  };
  const request = { command: ['true'], timeoutMs: 100 };
  await assert.rejects(execTask({ domain: { exec }, env: {} }, request, { signal }), {
    message:
      'the command did not begin within 0.1 s: the guest is busy, starts up, or its agent hangs',
  });
});

test('P-33: a user who goes away ends the command', async () => {
  const { client, taskId } = await startTask();
  const exec = new Exec(client).send({
    setup: { taskId, command: sh('echo $$; exec sleep 1000') },
  });
  await exec.until(() => exec.output('stdout').endsWith('\n'));
  const pid = Number(exec.output('stdout'));
  exec.cancel();
  await exec.until(() => {
    try {
      return !process.kill(pid, 0);
    } catch {
      return true;
    }
  });
  await client.call(method.destroyTask, { taskId, force: true });
});

test('P-33: a silent command has empty messages, by which Nomad notices that its user has gone away', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const first = { stream: 'stdout' as const, data: bytes('a') };
  const last = { stream: 'stderr' as const, data: bytes('b') };
  const coming = Promise.withResolvers<IteratorResult<typeof first | typeof last>>();
  // It may be silent for months: it must not be listened to at each message.
  const listen = t.mock.method(coming.promise, 'then');
  const turns = [Promise.resolve({ value: first }), coming.promise];
  const output = {
    [Symbol.asyncIterator]: () => ({
      next: () => turns.shift() ?? Promise.resolve({ value: undefined, done: true as const }),
    }),
  };
  const unused = (): void => {};
  const command: GuestCommand = {
    output,
    exit: async () => ({ exitCode: 0, signal: 0 }),
    write: async () => {},
    endInput: unused,
    resize: unused,
    [Symbol.dispose]: unused,
  };
  async function* requests() {
    yield create(execTaskStreaming.input, { setup: { taskId: 'a', command: ['true'] } });
  }
  const { signal } = new AbortController();
  const task = { domain: { exec: async () => command }, env: {} };
  const messages = execStreaming(requests(), () => task, { signal });
  assert.deepEqual((await messages.next()).value, { stdout: { data: bytes('a') } });
  for (let times = 0; times < 5; times += 1) {
    const next = messages.next();
    await new Promise(setImmediate);
    t.mock.timers.tick(3000);
    assert.deepEqual((await next).value, {});
  }
  assert.equal(listen.mock.callCount(), 1);
  coming.resolve({ value: last });
  assert.deepEqual((await messages.next()).value, { stderr: { data: bytes('b') } });
  assert.deepEqual((await messages.next()).value, { stdout: { close: true } });
});

test('P-33: what can’t be run is refused with words', async () => {
  const { client, taskId } = await startTask();
  const refusals: readonly (readonly [Request, RegExp])[] = [
    [{ stdin: { close: true } }, /^first message should always be setup$/],
    [{ setup: { taskId: 'none', command: ['true'] } }, /^task not found for given id$/],
    [{ setup: { taskId, command: [] } }, /no command/],
    [{ setup: { taskId, command: ['echo', 'a\0b'] } }, /an argument of the command has a NUL byte/],
    [{ setup: { taskId, command: ['no-agent'] } }, /the guest agent is not connected/],
  ];
  for (const [request, words] of refusals) {
    const { code, details } = await new Exec(client).send(request).end;
    assert.match(details, words);
    assert.ok(code !== 0 && code !== 1 && code !== 14);
  }
  await client.call(method.destroyTask, { taskId, force: true });
});

test('P-32: a check’s command: exit code, the end of its output, its time', async () => {
  const { client, taskId } = await startTask();
  const run = (script: string, seconds = 0) =>
    client.call(method.execTask, {
      taskId,
      command: sh(script),
      timeout: { seconds: BigInt(seconds) },
    });
  const warning = await run('echo "$GREETING"; echo oh >&2; exit 1');
  assert.equal(text(warning.stdout), 'hello\noh\n');
  assert.equal(warning.result?.exitCode, 1);
  const killed = await run('kill -9 $$');
  assert.deepEqual([killed.result?.exitCode, killed.result?.signal], [137, 9]);
  const long = await run('i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done');
  assert.equal(long.stdout.length, 4096);
  assert.ok(text(long.stdout).endsWith('line 3000\n'));
  const { details } = await failureOf(run('sleep 1000', 1));
  assert.match(details, /^the command did not end within 1 s and was ended/);
  await client.call(method.destroyTask, { taskId, force: true });
});

test('V-94: SIGHUP is the command that the job names, and its failure that of the signal', async () => {
  const on = (on_sighup: readonly string[]) => ({ ...smallest, exec: { on_sighup } });
  const hangUp = async (config?: Readonly<Record<string, unknown>>): Promise<string> => {
    const { client, taskId } = await startTask(config);
    const call = client.call(method.signalTask, { taskId, signal: 'SIGHUP' });
    const answer = await call.then(
      () => 'done',
      (error: { readonly details: string }) => error.details,
    );
    await client.call(method.destroyTask, { taskId, force: true });
    return answer;
  };
  assert.equal(await hangUp(on(sh('test "$GREETING" = hello'))), 'done');
  assert.equal(
    await hangUp(on(sh('echo one; printf "no\\033[1m such unit\\n" >&2; exit 5'))),
    'exec.on_sighup: sh ended in the guest with exit code 5: no [1m such unit',
  );
  assert.match(await hangUp(on(['no-agent'])), /the guest agent is not connected/);
  assert.match(await hangUp(), /^signal "SIGHUP" has no meaning for a VM unless .* on_sighup = \[/);
});
