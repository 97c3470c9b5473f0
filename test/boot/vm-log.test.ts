import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { identify } from '#host';
import { QmpClient } from '#qmp';
import { consoleHistoryBytes } from '../../src/vm/logs/log-relay.ts';
import { until } from '../support/live-vm.ts';
import { patient } from '../support/patience.ts';
import { canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

/** What the flooding guest says, over and over. */
const chat = 'GUEST-CHAT 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST\r\n';

test("V-105 P-36: the console comes out of stdout, QEMU's own words out of stderr, each pipe ends with the VM", async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const pipes = ground.pipes();
  const [out, err] = [ground.read(pipes.stdoutPath), ground.read(pipes.stderrPath)];
  const domain = await virtualizer.createDomain(ground.spec(0, pipes), soon());
  await out.until(/GUEST-BOOT\r\n/);
  // QEMU tells on stderr who ended it.
  process.kill(domain.record.pid, 'SIGTERM');
  await err.until(/terminating on signal 15 from pid/);
  await Promise.all([out.ended, err.ended]);
  assert.doesNotMatch(out.text, /terminating/);
  assert.doesNotMatch(err.text, /GUEST/);
});

test('V-105: a guest that floods its console neither stops nor fills the host', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const spec = ground.spec(4, ground.pipes());
  // Nobody reads, and nobody passes on: the worst case is a dead plugin.
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await starter.kill();
  const { run, console: history, qmp: socket } = ground.paths();
  const free = async (): Promise<number> => {
    const { bfree, bsize } = await statfs(run);
    return bfree * bsize;
  };
  // The last page is taken at once, and filled a moment later.
  const pageBytes = (await statfs(run)).bsize;
  const isFull = async (): Promise<boolean> =>
    (await free()) === 0 && statSync(history).size % pageBytes === 0;
  await until(isFull, (it) => it, 20_000);
  const before = statSync(history).size;
  assert.ok(before >= consoleHistoryBytes && before < 2 * consoleHistoryBytes, `${before} bytes`);
  await using qmp = await QmpClient.connect(socket, soon());
  const cpu = async (): Promise<number> => {
    const { userNs, systemNs } = ground.cpuOf(record.pid);
    return userNs + systemNs;
  };
  const cpuBefore = await cpu();
  const answeredMs: number[] = [];
  for (let round = 0; round < 10; round += 1) {
    const asked = performance.now();
    assert.equal((await qmp.execute('query-status', {}, soon())).running, true);
    answeredMs.push(performance.now() - asked);
    await sleep(20);
  }
  // The best of ten: a busy machine delays single answers.
  assert.ok(
    Math.min(...answeredMs) < patient(100),
    `QMP answered after ${answeredMs.join(', ')} ms`,
  );
  await until(cpu, (used) => used > cpuBefore, 5000);
  assert.equal(statSync(history).size, before, 'and nothing more is kept');
});

test('V-105 P-36: a reader that comes back after a flood gets whole lines again', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const pipes = ground.pipes();
  const domain = await virtualizer.createDomain(ground.spec(4, pipes), soon());
  await eventually(() => statSync(ground.paths().console).size > 100_000, 'a flood', 20_000);
  assert.equal(domain.state, 'running');
  const reader = ground.read(pipes.stdoutPath);
  await eventually(() => reader.text.length > 400_000, 'the flood in the log', 20_000);
  const { text } = reader;
  assert.ok(text.startsWith(`GUEST-BOOT\r\n${chat}`), 'from the first byte on');
  // Room was never short, so nothing is missing: after the first line it is one sentence again and again.
  const rest = text.slice('GUEST-BOOT\r\n'.length);
  const whole = chat.repeat(Math.ceil(rest.length / chat.length)).slice(0, rest.length);
  assert.ok(rest === whole, 'a gap or a repetition in the log');
});

test('V-97 P-36 P-37: the log goes on when its process is killed, without a gap or a repetition', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const pipes = ground.pipes();
  const spec = ground.spec(0, pipes);
  const reader = ground.read(pipes.stdoutPath);
  const starter = await ground.starter(spec);
  const record = await starter.create();
  await reader.until(/GUEST-TICK/);
  await starter.kill();
  await sleep(1500);
  const ticks = (): number => reader.text.match(/GUEST-TICK\r\n/g)?.length ?? 0;
  assert.equal(reader.child.exitCode, null, 'QEMU holds the pipe, so its reader goes on');
  const whileAway = ticks();
  const domain = await ground.virtualizer().recoverDomain(record, spec, soon());
  assert.equal(domain?.record.pid, record.pid);
  assert.ok(identify(record.pid) !== undefined);
  await eventually(() => ticks() >= whileAway + 2, 'what the guest said meanwhile');
  await ground.virtualizers[0]?.stopDomain(spec.name, {
    graceMs: patient(5000),
    immediately: false,
  });
  await reader.ended;
  assert.match(reader.text, /^GUEST-BOOT\r\n(GUEST-TICK\r\n)+GUEST-BUTTON\r\nGUEST-OFF\r\n$/);
});

test('P-36 V-106: a VM runs as well without a log: /dev/null, and pipes that are not there', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  for (const [index, path] of ['/dev/null', `${ground.root}/missing.fifo`].entries()) {
    const name = `vm-${index}`;
    const changes = { name, stdoutPath: path, stderrPath: path };
    const domain = await virtualizer.createDomain(ground.spec(0, changes), soon());
    await eventually(() => statSync(ground.paths(name).console).size > 0, 'a word from the guest');
    await virtualizer.stopDomain(name, { graceMs: patient(5000), immediately: false });
    assert.equal(domain.exit?.reason, 'guest-shutdown');
  }
});
