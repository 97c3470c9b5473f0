import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { AgentCommand } from '../../src/vm/guest/agent/agent-command.ts';
import { AgentLine } from '../../src/vm/guest/agent/agent-line.ts';
import { piecesOf, streamsOf } from '../../src/vm/guest/output.ts';
import { type Agent, answerSync, listen } from '../support/scripted-agent.ts';
import { tmpDir } from '../support/tmp.ts';
import { eventually, soon } from '../support/vm.ts';

const quiet = (): void => {};
const log = { trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet };
const session = '0123456789abcdef';
const mark = (text: string): string => `\x1e${session}${text};`;

/** A command as it has just begun, and the guest's end of its terminal, or of its output. */
async function begun(
  t: TestContext,
  { terminal, agent }: { readonly terminal: number | undefined; readonly agent: Agent },
): Promise<{ readonly command: AgentCommand; readonly guest: Socket; finished(): Promise<void> }> {
  const path = join(tmpDir(t), 'port.sock');
  const server = createServer().listen(path);
  const accepted = once(server, 'connection');
  const socket = connect({ path, allowHalfOpen: true });
  const [guest] = await accepted;
  const line = new AgentLine(await listen(t, agent));
  t.after(async () => {
    socket.destroy();
    guest.destroy();
    server.close();
    await line[Symbol.asyncDispose]();
  });
  const { promise, resolve } = Promise.withResolvers<Promise<void>>();
  const outputs = new Map([['out', socket]] as const);
  const command = new AgentCommand({
    session,
    pid: 7,
    terminal,
    input: socket,
    outputs,
    agent: line,
    log,
    pieces: piecesOf(streamsOf(outputs, { session, terminal: terminal !== undefined })),
    onDispose: resolve,
  });
  return { command, guest, finished: async () => await promise };
}

const never: Agent = (line, socket) => void answerSync(line, socket);
const answers =
  (...texts: readonly string[]): Agent =>
  (line, socket) => {
    if (!answerSync(line, socket)) for (const text of texts) socket.write(text);
  };

async function readAll(command: AgentCommand): Promise<string> {
  let text = '';
  for await (const { data } of command.output) text += Buffer.from(data).toString('latin1');
  return text;
}

/** What a terminal hears until it is set up: the greeting. It reports then that the command begins. */
async function setUp(guest: Socket): Promise<string> {
  const [greeting] = await once(guest, 'data');
  guest.write(mark('@0'));
  return String(greeting);
}

test('what is typed before the output is read comes when the terminal is set up, with the size', async (t) => {
  const { command, guest } = await begun(t, { terminal: 3, agent: never });
  command.resize({ rows: 33, columns: 101 });
  const typed = command.write(Buffer.from('typed\n'), soon());
  assert.equal(await setUp(guest), `go ${session} 33 101\n`);
  guest.once('data', (chunk) => guest.write(`${chunk}${mark(':0')}`));
  await typed;
  assert.equal(await readAll(command), 'typed\n');
  assert.deepEqual(await command.exit(soon()), { exitCode: 0, signal: 0 });
});

test('what a terminal shows in the place of its report is output', async (t) => {
  const { command, guest } = await begun(t, { terminal: 3, agent: never });
  command.endInput();
  guest.write(`sh: setsid: not found\n${mark(':127')}`);
  assert.equal(await readAll(command), 'sh: setsid: not found\n');
  assert.deepEqual(await command.exit(soon()), { exitCode: 127, signal: 0 });
});

test('a terminal has its new size although the agent was too busy for it at first', async (t) => {
  const sizes: string[] = [];
  const agent: Agent = (line, socket) => {
    if (answerSync(line, socket)) return;
    const [rows] = /stty rows \d+ cols \d+/.exec(line) ?? [];
    if (rows !== undefined) sizes.push(rows);
    if (rows === undefined) socket.write('{"return": {"exited": true, "exitcode": 0}}\n');
    else if (sizes.length === 1) socket.write('{"error": {"desc": "try again"}}\n');
    else socket.write('{"return": {"pid": 9}}\n');
  };
  const { command, guest } = await begun(t, { terminal: 3, agent });
  await Promise.all([command.write(Buffer.from('typed\n'), soon()), setUp(guest)]);
  command.resize({ rows: 40, columns: 120 });
  await eventually(() => sizes.length > 1, 'another try');
  assert.deepEqual(new Set(sizes), new Set(['stty rows 40 cols 120']));
});

test('an end of input before anything else comes when the terminal is set up as well', async (t) => {
  const { command, guest } = await begun(t, { terminal: 3, agent: never });
  command.endInput();
  assert.equal(await setUp(guest), `go ${session} 24 80\n`);
  const [chunk] = await once(guest, 'data');
  assert.equal(String(chunk), '\x04');
});

const hostile: Readonly<Record<string, Agent>> = {
  'never answers': never,
  'sends half a reply': answers('{"return": {"exi'),
  'sends lines without end': (line, socket) => {
    if (!answerSync(line, socket)) socket.write('{"return": {"exited": 1}}\n'.repeat(10_000));
  },
  'sends one line that does not end': (line, socket) => {
    if (!answerSync(line, socket)) socket.write('x'.repeat(1_000_000));
  },
  'hangs up': (line, socket) => {
    if (!answerSync(line, socket)) socket.destroy();
  },
  'reports the end of a command that goes on': answers('{"return": {"exited": true}}\n'),
  'knows no such command': answers('{"error": {"desc": "PID 7 does not exist"}}\n'),
};

suite('an agent that harms', { concurrency: true }, () => {
  for (const [what, agent] of Object.entries(hostile)) {
    test(`the exit of a command is its own, with an agent that ${what}`, async (t) => {
      const { command, guest, finished } = await begun(t, { terminal: undefined, agent });
      guest.write(`output${mark(':3')}`);
      assert.equal(await readAll(command), 'output');
      assert.deepEqual(await command.exit(soon()), { exitCode: 3, signal: 0 });
      command[Symbol.dispose]();
      // What is left to do in the guest has an end, whatever the agent does.
      await finished().catch(() => {});
    });
  }

  test('a command whose end only the agent knows ends once nothing more comes', async (t) => {
    const agent = answers('{"return": {"exited": true, "signal": 9}}\n');
    const { command, guest } = await begun(t, { terminal: undefined, agent });
    guest.write('the last of it');
    assert.equal(await readAll(command), 'the last of it');
    assert.deepEqual(await command.exit(soon()), { exitCode: 137, signal: 9 });
  });

  for (const exit of [
    { exitcode: 256 },
    { exitcode: 2 ** 40 },
    { exitcode: -1 },
    { signal: 65 },
    { exitcode: 1, signal: -(2 ** 40) },
  ]) {
    const report = JSON.stringify(exit);
    test(`a command that ended with ${report}, as the agent reports, is lost`, async (t) => {
      const agent = answers(`${JSON.stringify({ return: { exited: true, ...exit } })}\n`);
      const { command, guest } = await begun(t, { terminal: undefined, agent });
      guest.write('the last of it');
      assert.equal(await readAll(command), 'the last of it');
      await assert.rejects(command.exit(soon()), {
        name: 'VmError',
        message: /^the guest agent reports an exit that no program has: code/,
      });
    });
  }

  test('a command whose exit was in an answer that came too late keeps its output and exit', async (t) => {
    const forgotten = Promise.withResolvers<void>();
    let asked = 0;
    const { command, guest } = await begun(t, {
      terminal: undefined,
      agent: (line, socket) => {
        if (answerSync(line, socket)) return;
        asked += 1;
        // The first answer never comes.
        if (asked === 1) return;
        socket.write('{"error": {"desc": "PID 7 does not exist"}}\n');
        forgotten.resolve();
      },
    });
    const output = 'x'.repeat(1_000_000);
    guest.write(`${output}${mark(':3')}`);
    let read = 0;
    for await (const { data } of command.output) {
      read += data.length;
      // A slow reader.
      await forgotten.promise;
    }
    assert.equal(read, output.length);
    assert.deepEqual(await command.exit(soon()), { exitCode: 3, signal: 0 });
  });

  test('a command that the agent does not know any more is lost', async (t) => {
    const agent = answers('{"error": {"desc": "PID 7 does not exist"}}\n');
    const { command } = await begun(t, { terminal: undefined, agent });
    await readAll(command);
    await assert.rejects(command.exit(soon()), { name: 'VmError', message: /command was lost/ });
  });
});
