import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Waiting } from '#spec';
import { GuestCommands } from '../../src/vm/guest/guest-commands.ts';
import { noSsh } from '../../src/vm/guest/ssh/ssh-commands.ts';
import type { CommandWay } from '../../src/vm/guest/way.ts';
import type { GuestCommand } from '../../src/vm/virtualizer.ts';
import { patient } from '../support/patience.ts';
import { type AgentRequest, obedient, scriptedGuest } from '../support/scripted-guest.ts';
import { eventually, soon } from '../support/vm.ts';

/** As little time as it says, whatever the load: it is to be used up. */
const briefly = (ms: number): Waiting => ({ signal: AbortSignal.timeout(ms) });

const request = { command: ['sleep', '1000'], env: {}, terminal: false };

test('P-33: what runs when the VM is stopped is ended in the guest, and its ports are gone, before the stop goes on', async (t) => {
  const { commands, asked, ports } = await scriptedGuest(t, obedient);
  const running = await Promise.all([
    commands.start(request, soon()),
    commands.start(request, soon()),
  ]);
  assert.equal(ports.size, 6);
  await commands.end(soon());
  assert.equal(ports.size, 0);
  const ends = asked.filter(({ script }) => script.includes('NOMAD_ENDED='));
  assert.equal(ends.length, 2);
  for (const command of running) {
    await assert.rejects(command.exit(soon()), { name: 'VmError', message: /was ended/ });
  }
});

/** As a caller that has read it to its end leaves it. */
async function readAndLeave(command: GuestCommand): Promise<unknown> {
  for await (const _ of command.output);
  const exit = await command.exit(soon()).catch((error: unknown) => error);
  command[Symbol.dispose]();
  return exit;
}

const isEnd = ({ script }: AgentRequest): boolean => script.includes('NOMAD_ENDED=');

const abandoned: Readonly<Record<string, readonly [answer: string, exit: RegExp]>> = {
  'whose shells were killed': ['{"return": {"exited": true, "signal": 9}}', /"signal":9/],
  'whose agent was started again': ['{"error": {"desc": "PID 7 does not exist"}}', /VmError/],
};

for (const [what, [answer, expected]] of Object.entries(abandoned)) {
  test(`P-33: what is left of a command ${what} is ended in the guest`, async (t) => {
    let ending = false;
    const { commands, asked } = await scriptedGuest(t, (request) => {
      ending ||= isEnd(request);
      const isStatus = request.execute === 'guest-exec-status';
      return isStatus && !ending ? answer : obedient(request);
    });
    const exit = await readAndLeave(await commands.start(request, soon()));
    assert.match(JSON.stringify(exit), expected);
    await eventually(() => asked.some(isEnd), 'the request to end it');
  });
}

test('P-32: a command that could not be ended, as in a guest that was paused, is ended later', async (t) => {
  let isReached = false;
  const { commands, asked, ports } = await scriptedGuest(t, (request) =>
    isEnd(request) && !isReached ? '{"error": {"desc": "not now"}}' : obedient(request),
  );
  const command = await commands.start(request, soon());
  command[Symbol.dispose]();
  await eventually(() => ports.size === 0, 'no port');
  const before = asked.filter(isEnd).length;
  isReached = true;
  await eventually(() => asked.filter(isEnd).length > before, 'another try', 20_000);
});

test('P-33: the ports of a command that ended without a connection to QEMU make room when it is back', async (t) => {
  let connected = true;
  const { commands, asked, ports } = await scriptedGuest(t, obedient, {
    connected: () => connected,
  });
  const command = await commands.start(request, soon());
  connected = false;
  command[Symbol.dispose]();
  await eventually(() => asked.some(isEnd), 'the end of the command');
  await commands.end(soon());
  assert.equal(ports.size, 3);
  connected = true;
  const many = Array.from({ length: 8 }, () => commands.start(request, soon()));
  for (const other of await Promise.all(many)) other[Symbol.dispose]();
  await eventually(() => ports.size === 0, 'no port');
});

test('V-94: a reset of the guest ends its commands at once, and nothing is asked of it for them', async (t) => {
  let begins = true;
  const { commands, asked, ports } = await scriptedGuest(
    t,
    (request) => (request.execute === 'guest-exec-status' ? undefined : obedient(request)),
    { begins: () => begins },
  );
  const running = await commands.start(request, soon());
  begins = false;
  const lost = /command was lost: the guest was reset/;
  const beginning = assert.rejects(commands.start(request, soon()), lost);
  await eventually(() => asked.filter((it) => it.execute === 'guest-exec').length > 1, 'a start');
  commands.reset();
  assert.match(String(await readAndLeave(running)), lost);
  await beginning;
  await eventually(() => ports.size === 0, 'no port');
  assert.deepEqual(asked.filter(isEnd), []);
});

test('what a command writes to stderr is not lost when it arrives before the report that the command has begun', async (t) => {
  const { commands } = await scriptedGuest(t, obedient, { early: 'not found\n' });
  using command = await commands.start(request, soon());
  const read: string[] = [];
  for await (const { stream, data } of command.output) read.push(`${stream}: ${Buffer.from(data)}`);
  assert.deepEqual(read, ['stderr: not found\n']);
  assert.deepEqual(await command.exit(soon()), { exitCode: 127, signal: 0 });
});

test('nothing that runs costs a stop nothing', async (t) => {
  const { commands, asked } = await scriptedGuest(t, obedient);
  await commands.end(soon());
  assert.deepEqual(asked, []);
});

test('an agent that does not end a command costs a stop no more than its limit', async (t) => {
  const { commands } = await scriptedGuest(t, (asked) =>
    asked.script.includes('NOMAD_ENDED=') ? undefined : obedient(asked),
  );
  await commands.start(request, soon());
  await assert.rejects(commands.end(briefly(100)), { name: 'TimeoutError' });
});

const blocked: Readonly<Record<string, string>> = {
  'of today': 'Command guest-exec has been disabled: the command is not allowed',
  'of RHEL 8': 'The command guest-exec has been disabled for this instance',
};

for (const [which, desc] of Object.entries(blocked)) {
  test(`an agent ${which} that may not run commands: the error names the settings, and no port stays`, async (t) => {
    const { commands, ports } = await scriptedGuest(t, (asked) =>
      asked.execute === 'guest-exec' ? JSON.stringify({ error: { desc } }) : obedient(asked),
    );
    await assert.rejects(commands.start(request, soon()), {
      name: 'VmError',
      message: new RegExp(
        `${desc}; allow guest-exec and guest-exec-status .*FILTER_RPC_ARGS, QEMU_GA_ARGS, BLOCK_RPCS or BLACKLIST_RPC in /etc/sysconfig/qemu-ga`,
      ),
    });
    await eventually(() => ports.size === 0, 'no port');
  });
}

const unusable: Readonly<Record<string, string>> = {
  'gives a pid that is none': '{"return": {"pid": "7"}}',
  'answers with garbage': 'hello',
  'answers with a line without end': 'x'.repeat(100_000),
};

for (const [what, answer] of Object.entries(unusable)) {
  test(`an agent that ${what} has no way to run commands, and another is tried at once`, async (t) => {
    const { commands, ports } = await scriptedGuest(t, (asked) =>
      asked.execute === 'guest-exec' ? answer : obedient(asked),
    );
    const begun = performance.now();
    const message = 'the guest agent does not answer';
    await assert.rejects(commands.start(request, soon()), { message });
    assert.ok(performance.now() - begun < patient(5000));
    await eventually(() => ports.size === 0, 'no port', 15_000);
  });
}

test('V-95: an agent that has hung is given up sooner from then on, so that a check with little time has the other way', async (t) => {
  const { commands } = await scriptedGuest(t, () => undefined, { alone: false });
  await assert.rejects(commands.start(request, briefly(500)), { name: 'TimeoutError' });
  const missing = 'the guest agent is connected, but does not answer';
  const ways = new GuestCommands([
    ['agent', commands],
    ['ssh', noSsh('no key')],
  ]);
  await assert.rejects(ways.start(request, soon(4000)), {
    name: 'VmError',
    message: `by agent: ${missing}; by ssh: no key`,
    recoverable: true,
  });
});

/** Answers of an agent that answers all but what would start a command. */
const hanging = (asked: AgentRequest) =>
  asked.execute === 'guest-exec' ? undefined : obedient(asked);

const idle: Readonly<Record<string, Parameters<typeof scriptedGuest>[1]>> = {
  'accepts commands, and none begins': obedient,
  'hangs when it is to start one': hanging,
};

for (const [what, answer] of Object.entries(idle)) {
  test(`V-95: an agent that answers, but ${what}, is given up sooner from then on`, async (t) => {
    const options = { alone: false, begins: () => false };
    const { commands } = await scriptedGuest(t, answer, options);
    const other = await scriptedGuest(t, obedient);
    await assert.rejects(commands.start(request, briefly(500)), { name: 'TimeoutError' });
    const ways = new GuestCommands([
      ['agent', commands],
      ['ssh', other.commands],
    ]);
    using _command = await ways.start(request, soon(5000));
    assert.equal(other.asked.length, 1);
  });
}

test('V-95: an agent that was given up early has all of the time where no other way works', async (t) => {
  let begins = false;
  const options = { alone: false, begins: () => begins };
  const { commands, asked } = await scriptedGuest(t, obedient, options);
  await assert.rejects(commands.start(request, briefly(500)), { name: 'TimeoutError' });
  const other: CommandWay = {
    ...noSsh('no key'),
    start: (asked, waiting) => {
      begins = true;
      return noSsh('no key').start(asked, waiting);
    },
  };
  const ways = new GuestCommands([
    ['agent', commands],
    ['ssh', other],
  ]);
  using _command = await ways.start(request, soon());
  const started = asked.filter(({ script }) => !script.includes('NOMAD_ENDED='));
  assert.ok(started.length >= 3, `${started.length}`);
});

test('V-95: commands at once for an agent that starts nothing all have the other way', async (t) => {
  const options = { alone: false, begins: () => false };
  const { commands } = await scriptedGuest(t, obedient, options);
  const other = await scriptedGuest(t, obedient);
  await assert.rejects(commands.start(request, briefly(500)), { name: 'TimeoutError' });
  const ways = new GuestCommands([
    ['agent', commands],
    ['ssh', other.commands],
  ]);
  const three = [0, 1, 2].map(() => ways.start(request, soon()));
  for (const command of await Promise.all(three)) command[Symbol.dispose]();
});
