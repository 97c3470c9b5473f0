import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { endOf, figure, parseJournal, QmpClient, type QmpEvent } from '../../src/qmp/index.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const program = '/usr/bin/qemu-system-x86_64';
const base = ['-accel', 'tcg', '-S', '-nodefaults', '-no-user-config', '-display', 'none'];
const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(20_000) });

interface Machine {
  readonly process: ChildProcess;
  readonly qmp: QmpClient;
  readonly journal: () => Uint8Array;
}

/** A paused QEMU with a control monitor and a journal, killed after the test if it still runs. */
async function boot(t: TestContext, args: readonly string[]): Promise<Machine | undefined> {
  if (!requireOrSkip(t, existsSync(program), `${program} is not installed`)) return undefined;
  const dir = tmpDir(t);
  const [socketPath, journalPath] = [join(dir, 'qmp.sock'), join(dir, 'journal')];
  writeFileSync(join(dir, 'input'), '{"execute":"qmp_capabilities"}\n');
  const input = openSync(join(dir, 'input'), 'r');
  const output = openSync(journalPath, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT);
  const process = spawn(
    program,
    [
      ...base,
      ...args,
      ...['-chardev', `socket,id=control,path=${socketPath},server=on,wait=off`],
      ...['-mon', 'chardev=control,mode=control'],
      ...['-chardev', 'stdio,id=journal,signal=off', '-mon', 'chardev=journal,mode=control'],
    ],
    { stdio: [input, output, 'inherit'] },
  );
  closeSync(input);
  closeSync(output);
  const exited = once(process, 'exit');
  t.after(async () => {
    process.kill('SIGKILL');
    await exited;
  });
  while (!existsSync(socketPath)) {
    assert.equal(process.exitCode, null, 'QEMU ended before its monitor was there');
    await sleep(10);
  }
  const qmp = await QmpClient.connect(socketPath, soon());
  t.after(() => qmp[Symbol.asyncDispose]());
  return { process, qmp, journal: () => readFileSync(journalPath) };
}

const q35 = ['-M', 'q35', '-m', '64'];

async function collect(events: AsyncIterable<QmpEvent>): Promise<string[]> {
  const seen: string[] = [];
  for await (const { event } of events) seen.push(event);
  return seen;
}

test('QEMU: every query of the command table is answered as the table says', async (t) => {
  const machine = await boot(t, [
    ...q35,
    ...['-smp', '2', '-device', '{"driver":"virtio-balloon-pci","id":"balloon0"}'],
    ...['-blockdev', '{"driver":"null-co","node-name":"disk0","size":1048576}'],
    ...['-device', '{"driver":"virtio-blk-pci","drive":"disk0","id":"vda"}'],
    ...['-chardev', 'ringbuf,id=console,size=4096', '-serial', 'chardev:console'],
  ]);
  if (machine === undefined) return;
  const { qmp } = machine;
  const { qemu } = await qmp.execute('query-version', {}, soon());
  assert.deepEqual(qemu, qmp.version);
  assert.deepEqual(await qmp.execute('query-status', {}, soon()), {
    status: 'prelaunch',
    running: false,
  });
  assert.equal((await qmp.execute('query-kvm', {}, soon())).enabled, false);
  const cpus = await qmp.execute('query-cpus-fast', {}, soon());
  assert.deepEqual(
    cpus.map((cpu) => cpu['cpu-index']),
    [0, 1],
  );
  for (const cpu of cpus) {
    assert.ok(existsSync(`/proc/${machine.process.pid}/task/${cpu['thread-id']}`));
  }
  const memory = await qmp.execute('query-memory-size-summary', {}, soon());
  assert.deepEqual(memory, { 'base-memory': 64 * 2 ** 20, 'plugged-memory': 0 });
  assert.deepEqual(await qmp.execute('query-balloon', {}, soon()), { actual: 64 * 2 ** 20 });
  const [stats] = await qmp.execute('query-blockstats', { 'query-nodes': false }, soon());
  assert.match(stats?.qdev ?? '', /vda/);
  assert.equal(stats?.stats.wr_bytes, 0);
  const [node] = await qmp.execute('query-named-block-nodes', { flat: true }, soon());
  assert.equal(node?.['node-name'], 'disk0');
  assert.equal(node?.image['virtual-size'], 1048576);
  assert.equal(await qmp.execute('ringbuf-read', { device: 'console', size: 100 }, soon()), '');
  const hmp = { 'command-line': 'info status' };
  assert.match(await qmp.execute('human-monitor-command', hmp, soon()), /paused/);
});

test('QEMU: the schema, 200 KB in one line, comes through', async (t) => {
  const machine = await boot(t, ['-M', 'none']);
  if (machine === undefined) return;
  const schema = await machine.qmp.execute('query-qmp-schema', {}, soon());
  assert.ok(schema.length > 500);
});

test('QEMU: balloon statistics that are not available are told from large ones', async (t) => {
  const path = '/machine/peripheral/balloon0';
  const machine = await boot(t, [
    ...q35,
    ...['-device', '{"driver":"virtio-balloon-pci","id":"balloon0"}'],
  ]);
  if (machine === undefined) return;
  const { qmp } = machine;
  await qmp.execute(
    'qom-set',
    { path, property: 'guest-stats-polling-interval', value: 1 },
    soon(),
  );
  const answer = await qmp.execute('qom-get', { path, property: 'guest-stats' }, soon());
  assert.ok(typeof answer === 'object' && answer !== null && 'stats' in answer);
  const stats = Object.entries(answer.stats ?? {});
  assert.ok(stats.length > 5);
  for (const [name, value] of stats) {
    assert.equal(value, 18446744073709551615n, name);
    assert.equal(figure(value), undefined);
  }
});

test('QEMU: cont, stop, reset and power-down bring their events in order', async (t) => {
  const machine = await boot(t, q35);
  if (machine === undefined) return;
  const { qmp } = machine;
  const events = qmp.events();
  const actions = { panic: 'pause', reboot: 'reset', shutdown: 'poweroff' } as const;
  await qmp.execute('set-action', actions, soon());
  await qmp.execute('cont', {}, soon());
  assert.equal((await qmp.execute('query-status', {}, soon())).status, 'running');
  await qmp.execute('stop', {}, soon());
  await qmp.execute('system_reset', {}, soon());
  await qmp.execute('cont', {}, soon());
  await qmp.execute('system_powerdown', {}, soon());
  await qmp.execute('quit', {}, soon());
  const seen = await collect(events);
  const expected = ['RESUME', 'STOP', 'RESET', 'RESUME', 'POWERDOWN', 'SHUTDOWN'];
  assert.deepEqual(
    seen.filter((name) => expected.includes(name)),
    expected,
  );
});

test('QEMU: refusals keep their class', async (t) => {
  const machine = await boot(t, ['-M', 'none']);
  if (machine === undefined) return;
  const resize = { 'node-name': 'nosuch', size: 512 };
  await assert.rejects(machine.qmp.execute('block_resize', resize, soon()), {
    code: 'command',
    errorClass: 'GenericError',
  });
  const missing = { path: '/machine/peripheral/none', property: 'x' };
  await assert.rejects(machine.qmp.execute('qom-get', missing, soon()), {
    code: 'command',
    errorClass: 'DeviceNotFound',
  });
});

test('QEMU: a second client gets no greeting while the first is there, and times out', async (t) => {
  const machine = await boot(t, ['-M', 'none']);
  if (machine === undefined) return;
  const { process, qmp } = machine;
  const path = String(process.spawnargs.find((it) => it.includes('path='))).replace(
    /.*path=([^,]*).*/,
    '$1',
  );
  await assert.rejects(QmpClient.connect(path, { signal: AbortSignal.timeout(200) }), {
    code: 'timeout',
  });
  await qmp[Symbol.asyncDispose]();
  await using again = await QmpClient.connect(path, soon());
  assert.equal((await again.execute('query-status', {}, soon())).running, false);
});

test('QEMU: frozen, it lets calls run into their deadline; thawed, late answers harm nothing', async (t) => {
  const machine = await boot(t, ['-M', 'none']);
  if (machine === undefined) return;
  const { process, qmp } = machine;
  process.kill('SIGSTOP');
  const brief = { signal: AbortSignal.timeout(100) };
  await assert.rejects(qmp.execute('query-status', {}, brief), { code: 'timeout' });
  process.kill('SIGCONT');
  assert.equal((await qmp.execute('query-status', {}, soon())).status, 'prelaunch');
});

test('QEMU: 2000 calls, 16 in flight, all answered', async (t) => {
  const machine = await boot(t, ['-M', 'none']);
  if (machine === undefined) return;
  let left = 2000;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await machine.qmp.execute('query-status', {}, soon());
  };
  await Promise.all(Array.from({ length: 16 }, worker));
});

test('journal of QEMU: quit is host-qmp-quit, and the session ends in order', async (t) => {
  const machine = await boot(t, ['-M', 'none']);
  if (machine === undefined) return;
  const events = machine.qmp.events();
  await machine.qmp.execute('quit', {}, soon());
  assert.deepEqual((await collect(events)).at(-1), 'SHUTDOWN');
  await once(machine.process, 'exit');
  assert.deepEqual(endOf(parseJournal(machine.journal())), {
    reason: 'host-qmp-quit',
    guest: false,
    panicked: false,
  });
});

test('journal of QEMU: SIGTERM is host-signal', async (t) => {
  const machine = await boot(t, ['-M', 'none']);
  if (machine === undefined) return;
  machine.process.kill('SIGTERM');
  await once(machine.process, 'exit');
  assert.deepEqual(endOf(parseJournal(machine.journal())), {
    reason: 'host-signal',
    guest: false,
    panicked: false,
  });
});

test('journal of QEMU: after SIGKILL it tells of no end', async (t) => {
  const machine = await boot(t, q35);
  if (machine === undefined) return;
  await machine.qmp.execute('cont', {}, soon());
  machine.process.kill('SIGKILL');
  await once(machine.process, 'exit');
  await machine.qmp.closed;
  const events = parseJournal(machine.journal());
  assert.ok(events.some(({ event }) => event === 'RESUME'));
  assert.equal(endOf(events), undefined);
});
