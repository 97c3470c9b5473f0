import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd, listenUnix } from '../../src/host/index.ts';
import { figure, QmpClient, type QmpEvent } from '../../src/qmp/index.ts';
import { findProgram } from '../support/programs.ts';
import { startQemu } from '../support/qemu-monitor.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(20_000) });
const q35 = ['-M', 'q35', '-m', '64'];

async function collect(events: AsyncIterable<QmpEvent>): Promise<string[]> {
  const seen: string[] = [];
  for await (const { event } of events) seen.push(event);
  return seen;
}

test('QEMU: every query of the command table is answered as the table says', async (t) => {
  const machine = await startQemu(t, [
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
  const machine = await startQemu(t, ['-M', 'none']);
  if (machine === undefined) return;
  const schema = await machine.qmp.execute('query-qmp-schema', {}, soon());
  assert.ok(schema.length > 500);
});

test('QEMU: balloon statistics that are not available are told from large ones', async (t) => {
  const path = '/machine/peripheral/balloon0';
  const machine = await startQemu(t, [
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
  const machine = await startQemu(t, q35);
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
  const machine = await startQemu(t, ['-M', 'none']);
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
  const machine = await startQemu(t, ['-M', 'none']);
  if (machine === undefined) return;
  const { qmp, socketPath: path } = machine;
  await assert.rejects(QmpClient.connect(path, { signal: AbortSignal.timeout(200) }), {
    code: 'timeout',
  });
  await qmp[Symbol.asyncDispose]();
  await using again = await QmpClient.connect(path, soon());
  assert.equal((await again.execute('query-status', {}, soon())).running, false);
});

test('QEMU: frozen, it lets calls run into their deadline; thawed, late answers harm nothing', async (t) => {
  const machine = await startQemu(t, ['-M', 'none']);
  if (machine === undefined) return;
  const { process, qmp } = machine;
  process.kill('SIGSTOP');
  const brief = { signal: AbortSignal.timeout(100) };
  await assert.rejects(qmp.execute('query-status', {}, brief), { code: 'timeout' });
  process.kill('SIGCONT');
  assert.equal((await qmp.execute('query-status', {}, soon())).status, 'prelaunch');
});

test('QEMU: 2000 calls, 16 in flight, all answered', async (t) => {
  const machine = await startQemu(t, ['-M', 'none']);
  if (machine === undefined) return;
  let left = 2000;
  const worker = async (): Promise<void> => {
    while (left-- > 0) await machine.qmp.execute('query-status', {}, soon());
  };
  await Promise.all(Array.from({ length: 16 }, worker));
});

test('QEMU: a client that was connected before QEMU was there is greeted when it comes', async (t) => {
  const program = findProgram('qemu-system-x86_64');
  if (!requireOrSkip(t, program !== undefined, 'qemu-system-x86_64 is not installed')) return;
  const path = join(tmpDir(t), 'qmp.sock');
  const listener = listenUnix(path);
  const socket = connect({ path });
  await once(socket, 'connect');
  const negotiating = QmpClient.negotiate(socket, soon());
  const process = spawn(
    program ?? '',
    [
      ...['-accel', 'tcg', '-S', '-nodefaults', '-display', 'none', '-M', 'none'],
      ...['-chardev', 'socket,id=control,fd=3,server=on,wait=off'],
      ...['-mon', 'chardev=control,mode=control'],
    ],
    { stdio: ['ignore', 'ignore', 'ignore', listener] },
  );
  closeFd(listener);
  const exited = once(process, 'exit');
  try {
    await using qmp = await negotiating;
    assert.equal((await qmp.execute('query-status', {}, soon())).status, 'prelaunch');
    await qmp.execute('quit', {}, soon());
    await qmp.closed;
  } finally {
    process.kill('SIGKILL');
    await exited;
  }
});
