import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd, listenUnix } from '../../src/host/index.ts';
import { figure, QmpClient, type QmpEvent } from '../../src/qmp/index.ts';
import { patient } from '../support/patience.ts';
import { findProgram } from '../support/programs.ts';
import { startQemu } from '../support/qemu-monitor.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(patient(20_000)) });
const q35 = ['-M', 'q35', '-m', '64'];

async function collect(events: AsyncIterable<QmpEvent>): Promise<string[]> {
  const seen: string[] = [];
  for await (const { event } of events) seen.push(event);
  return seen;
}

test('QEMU: every query of the command table is answered as in the table', async (t) => {
  const machine = await startQemu(t, [
    ...q35,
    ...['-device', '{"driver":"virtio-serial-pci"}', '-chardev', 'null,id=agent'],
    ...['-device', '{"driver":"virtserialport","chardev":"agent"}'],
    ...['-blockdev', '{"driver":"null-co","node-name":"disk0","size":1048576}'],
    ...['-device', '{"driver":"virtio-blk-pci","drive":"disk0","id":"vda"}'],
  ]);
  if (machine === undefined) return;
  const { qmp } = machine;
  assert.deepEqual(await qmp.execute('query-status', {}, soon()), {
    status: 'prelaunch',
    running: false,
  });
  const ports = await qmp.execute('query-chardev', {}, soon());
  assert.equal(ports.find(({ label }) => label === 'agent')?.['frontend-open'], false);
  const [node] = await qmp.execute('query-named-block-nodes', { flat: true }, soon());
  assert.equal(node?.['node-name'], 'disk0');
  assert.match(node.file, /null-co/);
  const vda = { path: '/machine/peripheral/vda', property: 'type' };
  assert.equal(await qmp.execute('qom-get', vda, soon()), 'virtio-blk-pci');
});

test('QEMU: an answer of 200 KB in one line comes through', async (t) => {
  const disks = Array.from({ length: 300 }, (_, index) => `disk${index}`);
  const machine = await startQemu(t, [
    ...['-M', 'none'],
    ...disks.flatMap((name) => ['-blockdev', `{"driver":"null-co","node-name":"${name}"}`]),
  ]);
  if (machine === undefined) return;
  const nodes = await machine.qmp.execute('query-named-block-nodes', { flat: true }, soon());
  assert.deepEqual(nodes.map((node) => node['node-name']).toSorted(), disks.toSorted());
});

test('QEMU: balloon statistics that are not available are distinguished from large ones', async (t) => {
  const path = '/machine/peripheral/balloon0';
  const balloon = { driver: 'virtio-balloon-pci', id: 'balloon0' };
  const polled = { ...balloon, 'guest-stats-polling-interval': 1 };
  const machine = await startQemu(t, [...q35, '-device', JSON.stringify(polled)]);
  if (machine === undefined) return;
  const answer = await machine.qmp.execute('qom-get', { path, property: 'guest-stats' }, soon());
  assert.ok(typeof answer === 'object' && answer !== null && 'stats' in answer);
  const stats = Object.entries(answer.stats ?? {});
  assert.ok(stats.length > 5);
  for (const [name, value] of stats) {
    assert.equal(value, 18446744073709551615n, name);
    assert.equal(figure(value), undefined);
  }
});

test('QEMU: cont, power-down and quit bring their events in order', async (t) => {
  const machine = await startQemu(t, q35);
  if (machine === undefined) return;
  const { qmp } = machine;
  const events = qmp.events();
  await qmp.execute('cont', {}, soon());
  assert.equal((await qmp.execute('query-status', {}, soon())).status, 'running');
  await qmp.execute('system_powerdown', {}, soon());
  await qmp.execute('quit', {}, soon());
  const seen = await collect(events);
  const expected = ['RESUME', 'POWERDOWN', 'SHUTDOWN'];
  assert.deepEqual(
    seen.filter((name) => expected.includes(name)),
    expected,
  );
});

test('QEMU: refusals come with their reason', async (t) => {
  const machine = await startQemu(t, ['-M', 'none']);
  if (machine === undefined) return;
  const resize = { 'node-name': 'nosuch', size: 512 };
  await assert.rejects(machine.qmp.execute('block_resize', resize, soon()), {
    code: 'command',
    message: /nosuch/,
  });
  const missing = { path: '/machine/peripheral/none', property: 'x' };
  await assert.rejects(machine.qmp.execute('qom-get', missing, soon()), {
    code: 'command',
    message: /\/machine\/peripheral\/none/,
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
