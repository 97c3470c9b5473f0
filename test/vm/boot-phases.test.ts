import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { identify } from '#host';
import { printable } from '#spec';
import { AgentLine } from '../../src/vm/guest/agent/agent-line.ts';
import { ConsoleFeed } from '../../src/vm/logs/console-feed.ts';
import { addressEvent } from '../../src/vm/progress/agent-reports.ts';
import { cloudInitEvent } from '../../src/vm/progress/cloud-init-report.ts';
import { GuestProgress } from '../../src/vm/progress/guest-progress.ts';
import type { TaskEvent } from '../../src/vm/task-event.ts';
import { type Agent, answerSync, listen } from '../support/scripted-agent.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect, eventually } from '../support/vm.ts';
import { exampleRecord } from '../support/vm-record.ts';

const agentOpens = (open: boolean) => ({
  event: 'VSERPORT_CHANGE',
  data: { id: 'agent0', open },
  atMs: 0,
});
const reset = (atMs: number) => ({ event: 'RESET', data: { guest: true }, atMs });
const settled = () => new Promise((resolve) => setTimeout(resolve, 50));

/** A guest that one plugin process after the other watches. */
class Guest {
  readonly events: TaskEvent[] = [];
  readonly #t: TestContext;
  readonly #path: string;
  readonly #agentPath: string;

  constructor(t: TestContext, agentPath = '/nonexistent') {
    this.#t = t;
    this.#path = join(tmpDir(t), 'progress');
    this.#agentPath = agentPath;
  }

  get messages(): readonly string[] {
    return this.events.map(({ message }) => message);
  }

  watched(resetAtMs?: number): { readonly progress: GuestProgress; readonly console: ConsoleFeed } {
    const console = new ConsoleFeed();
    const agent = new AgentLine(this.#agentPath);
    const progress = new GuestProgress({
      record: exampleRecord,
      path: this.#path,
      identity: identify(process.pid) ?? assert.fail(),
      qmp: undefined,
      resetAtMs,
      agent,
      console,
      emit: (message, annotations = {}) => this.events.push({ message, annotations }),
      log: collect([]),
      onFailed: () => assert.fail(),
    });
    this.#t.after(async () => {
      progress[Symbol.dispose]();
      await agent[Symbol.asyncDispose]();
    });
    return { progress, console };
  }

  has(count: number, ms?: number): Promise<void> {
    return eventually(() => this.events.length >= count, `${count} events`, ms);
  }
}

const boot = [
  'SeaBIOS (version 1.16.2-debian)\r\n',
  'Booting from Hard Disk...\r\n',
  '[    0.000000] Linux version 6.1.0-18-cloud-amd64 (debian-kernel@lists.debian.org)\r\n',
  '[    0.000000] Command line: BOOT_IMAGE=/vmlinuz\r\n',
].join('');

test('V-104: firmware and kernel are reported once for each boot of the guest', (t) => {
  const guest = new Guest(t);
  const { progress, console } = guest.watched();
  const own = ["Guest's firmware has started", "Guest's kernel has started"];
  console.push(Buffer.from(boot + boot));
  assert.deepEqual(guest.messages, own);
  progress.observe(reset(1000));
  assert.deepEqual(guest.messages, own);
  console.push(Buffer.from(boot));
  assert.deepEqual(guest.messages, [...own, ...own]);
  progress[Symbol.dispose]();
  progress.observe(reset(2000));
  console.push(Buffer.from(boot));
  assert.equal(guest.events.length, 4, 'nothing follows the end');
});

test('the next process reports what is new, and all of a boot that began while none was there', (t) => {
  const guest = new Guest(t);
  const first = guest.watched();
  first.console.push(Buffer.from(boot.slice(0, 40)));
  first.progress[Symbol.dispose]();
  guest.watched().console.push(Buffer.from(boot));
  assert.deepEqual(guest.messages, ["Guest's firmware has started", "Guest's kernel has started"]);
  guest.watched(1000).console.push(Buffer.from(boot));
  assert.equal(guest.events.length, 4);
  guest.watched(1000).console.push(Buffer.from(boot));
  assert.equal(guest.events.length, 4);
});

test('a console that shows other things is no sign', (t) => {
  const guest = new Guest(t);
  guest.watched().console.push(Buffer.from('GUEST OK\r\n[   12.345678] usb\r\nLinux version\r\n'));
  assert.deepEqual(guest.messages, []);
});

const finished =
  '[   31.0] cloud-init[512]: Cloud-init v. 22.4.2 finished at Fri, 27 Nov 2026 05:00:00 +0000. Datasource DataSourceNoCloud [seed=/dev/vdb].  Up 31.08 seconds\r\n';

test('without an agent cloud-init’s line on the console is the report', async (t) => {
  const guest = new Guest(t);
  guest.watched().console.push(Buffer.from(finished));
  await guest.has(1);
  assert.deepEqual(guest.messages, ['cloud-init has finished']);
});

/** An agent in a guest whose cloud-init finishes when it is asked for the second time. */
function working(reports: { readonly result: unknown; readonly status?: unknown }): Agent {
  let asked = 0;
  const texts = [reports.result, reports.status ?? {}].map((it) => JSON.stringify(it));
  const output = Buffer.from(texts.join('\x1e')).toString('base64');
  return (line, socket) => {
    if (answerSync(line, socket)) return;
    const { execute } = JSON.parse(line);
    if (execute === 'guest-exec') asked += 1;
    const answers: Readonly<Record<string, unknown>> = {
      'guest-ping': {},
      'guest-network-get-interfaces': [
        { name: 'lo', 'ip-addresses': [{ 'ip-address': '127.0.0.1' }] },
        { name: 'eth0', 'ip-addresses': [{ 'ip-address': '192.0.2.7' }] },
      ],
      'guest-exec': { pid: asked },
      'guest-exec-status':
        asked < 2
          ? { exited: true, exitcode: 4 }
          : { exited: true, exitcode: 0, 'out-data': output },
    };
    socket.write(`${JSON.stringify({ return: answers[execute] })}\n`);
  };
}

test('V-104: the agent, its addresses and cloud-init’s errors are reported, once a boot', async (t) => {
  const path = await listen(t, working({ result: { v1: { errors: ['runcmd: exit 1'] } } }));
  const guest = new Guest(t, path);
  const { progress } = guest.watched();
  progress.observe(agentOpens(true));
  await guest.has(3);
  assert.deepEqual(guest.messages.toSorted(), [
    'Guest agent is connected',
    'Guest reports the address 192.0.2.7 (eth0)',
    'cloud-init has finished with errors: runcmd: exit 1',
  ]);
  progress.observe(agentOpens(false));
  progress.observe(agentOpens(true));
  await settled();
  assert.equal(guest.events.length, 3);
  progress.observe(reset(1000));
  progress.observe(agentOpens(true));
  await guest.has(6);
});

test('an agent that runs no commands leaves cloud-init to the console', async (t) => {
  const path = await listen(t, (line, socket) => {
    if (answerSync(line, socket)) return;
    const isPing = line.includes('guest-ping');
    socket.write(isPing ? '{"return": {}}\n' : '{"error": {"desc": "disabled"}}\n');
  });
  const guest = new Guest(t, path);
  const { progress, console } = guest.watched();
  progress.observe(agentOpens(true));
  await guest.has(1);
  console.push(Buffer.from(finished));
  await guest.has(2);
  assert.deepEqual(guest.messages, ['Guest agent is connected', 'cloud-init has finished']);
});

const lies: Readonly<Record<string, unknown>> = {
  'no list': { 'guest-network-get-interfaces': 7 },
  'addresses that are none': {
    'guest-network-get-interfaces': [
      { name: 'eth0', 'ip-addresses': [{ 'ip-address': '$(reboot)' }, { 'ip-address': '::1' }] },
    ],
  },
  'output that is no base64': { 'guest-exec-status': { exited: true, exitcode: 4, 'out-data': 7 } },
};

for (const [what, answers] of Object.entries(lies)) {
  test(`an agent that answers with ${what} is connected, and no more`, async (t) => {
    const path = await listen(t, (line, socket) => {
      if (answerSync(line, socket)) return;
      const { execute } = JSON.parse(line);
      const own = (answers as Readonly<Record<string, unknown>>)[execute];
      const others: Readonly<Record<string, unknown>> = { 'guest-exec': { pid: 1 } };
      socket.write(`${JSON.stringify({ return: own ?? others[execute] ?? {} })}\n`);
    });
    const guest = new Guest(t, path);
    guest.watched().progress.observe(agentOpens(true));
    await guest.has(1);
    await settled();
    assert.deepEqual(guest.messages, ['Guest agent is connected']);
  });
}

const v1 = (errors: readonly string[]) => JSON.stringify({ v1: { errors } });

test('what cloud-init wrote, as an event', () => {
  const clean = cloudInitEvent(`${v1([])}\x1e{"v1": {}}`);
  assert.deepEqual(clean, { message: 'cloud-init has finished', annotations: { status: 'done' } });
  const { message, annotations } = cloudInitEvent(v1(['a\nb', 'x'.repeat(500), 'c', 'd', 'e']));
  assert.match(message, /^cloud-init has finished with errors: a b; x{199}…; c; and 2 more$/);
  assert.equal(annotations.status, 'error');
  const status = {
    v1: {
      stage: null,
      'modules-config': { errors: [], recoverable_errors: { WARNING: ['no such user'] } },
    },
  };
  const degraded = cloudInitEvent(`${v1([])}\x1e${JSON.stringify(status)}`);
  assert.equal(degraded.message, 'cloud-init has finished with warnings: no such user');
  assert.equal(degraded.annotations.status, 'degraded');
});

test('a report of cloud-init that is cut, or none, is not taken for a good one', () => {
  const long = JSON.stringify({
    v1: { datasource: 'NoCloud', errors: ['a", b', 'x'.repeat(500)] },
  });
  for (let length = 0; length < long.length; length += 1) {
    const { annotations } = cloudInitEvent(`${long.slice(0, length)}\x1e{"v1": {}}`);
    assert.match(annotations.status ?? '', /^(error|unknown)$/, long.slice(0, length));
  }
  const { message } = cloudInitEvent(long.slice(0, 300));
  assert.match(message, /^cloud-init has finished with errors: a", b; x{199}…$/);
  for (const none of [
    '',
    '{"v1": {"errors": 7}}\x1e{"v1": {}}',
    `${v1([])}\x1e{"v1": {"stage": {"rec`,
  ]) {
    assert.match(cloudInitEvent(none).message, /finished, with a report that can not be read/);
  }
});

test('addresses, IPv4 first, and text of a guest on one line', () => {
  const own = (...addresses: readonly string[]) => addresses.map((it) => ({ 'ip-address': it }));
  const event = addressEvent([
    { name: 'lo', 'ip-addresses': own('127.0.0.1', '::1') },
    { name: 'eth0\nx', 'ip-addresses': own('2001:db8::1', '192.0.2.7', 'fe80::1', '169.254.0.1') },
    { name: 'none' },
  ]);
  assert.deepEqual(event, {
    message: 'Guest reports the address 192.0.2.7 (eth0 x)',
    annotations: { addresses: '2001:db8::1 (eth0 x), 192.0.2.7 (eth0 x)' },
  });
  assert.equal(addressEvent([{ name: 'lo', 'ip-addresses': own('127.0.0.1') }]), undefined);
  assert.equal(printable('a\x1b[31m\u202eb\u0000', 20), 'a [31m b');
});
