import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import {
  findByMark,
  findProgram,
  identify,
  isAlive,
  kill,
  pidfdSignal,
  type SpawnedProcess,
  spawnDetached,
  waitGone,
} from '#host';
import { parseStat } from '../../src/host/process/process.ts';
import { requireOrSkip } from '../support/require.ts';

const waiting = (ms = 10_000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });
const noStdio = ['ignore', 'ignore', 'ignore'] as const;

async function sleeper(t: TestContext, mark = 'no-mark'): Promise<SpawnedProcess> {
  const child = await spawnDetached({
    program: '/bin/sh',
    args: ['-c', 'while :; do sleep 60; done', mark],
    stdio: noStdio,
  });
  t.after(() => killGroup(child.identity.pid));
  return child;
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // already gone, as the test wanted it
  }
}

test('the state line of a process is read whatever its name is', () => {
  const name = fc.string({
    unit: fc.constantFrom('a', ' ', ')', '(', '1', '\n', 'R'),
    maxLength: 15,
  });
  fc.assert(
    fc.property(name, fc.nat(), fc.nat(500), (comm, start, threads) => {
      const middle = Array.from({ length: 16 }, (_, index) => index).join(' ');
      const text = `42 (${comm}) S ${middle} ${threads} 0 ${start} 1 2 3\n`;
      assert.deepEqual(parseStat(text), { state: 'S', threads, startTicks: String(start) });
    }),
  );
});

test('half a state line is no state', () => {
  const whole = readFileSync('/proc/self/stat', 'latin1');
  const { startTicks } = parseStat(whole) ?? {};
  assert.ok(startTicks);
  const fields = whole.slice(0, whole.lastIndexOf(')')).length;
  for (let length = 0; length < fields + 20; length += 1) {
    assert.equal(parseStat(whole.slice(0, length)), undefined);
  }
});

test('this process is itself', () => {
  const identity = identify(process.pid);
  assert.ok(identity);
  assert.match(identity.bootId, /^[0-9a-f-]{36}$/);
  assert.ok(isAlive(identity));
  assert.throws(() => pidfdSignal(identity, 0), RangeError);
});

test('P-40: a pid that belongs to another process now, or to one before a reboot, is not ours', async (t) => {
  const { identity } = await sleeper(t);
  assert.ok(isAlive(identity));
  const impostors = {
    'another start': { ...identity, startTicks: String(Number(identity.startTicks) - 1) },
    'another boot': { ...identity, bootId: randomUUID() },
  };
  for (const [name, impostor] of Object.entries(impostors)) {
    assert.ok(!isAlive(impostor), name);
    assert.equal(pidfdSignal(impostor, 9), false, name);
    await kill(impostor, waiting());
  }
  assert.ok(isAlive(identity), 'the process that has the pid lives on');
});

test('a pid that is not in use is no process', () => {
  const free = { pid: 2 ** 22 + 1, startTicks: '1', bootId: '' };
  assert.equal(identify(free.pid), undefined);
  assert.equal(pidfdSignal(free, 0), false);
});

test('a signal arrives, and asking with 0 does no harm', async (t) => {
  const { identity, exit } = await sleeper(t);
  assert.equal(pidfdSignal(identity, 0), true);
  assert.equal(pidfdSignal(identity, 15), true);
  assert.deepEqual(await exit, { code: null, signal: 'SIGTERM' });
  assert.equal(pidfdSignal(identity, 15), false);
});

test('a zombie is dead: it is neither alive, nor found, nor waited for', async (t) => {
  // The shell becomes a sleeper that never reaps its child.
  const mark = randomUUID();
  const script = `sh -c 'while :; do sleep 0.01; done' ${mark} & exec sleep 60`;
  const parent = await spawnDetached({
    program: '/bin/sh',
    args: ['-c', script],
    stdio: noStdio,
  });
  t.after(() => killGroup(parent.identity.pid));
  const child = await soon(async () => {
    const found = await findByMark(mark, [], waiting());
    return found.find(({ pid }) => pid !== parent.identity.pid);
  });
  await kill(child, waiting());
  assert.match(readFileSync(`/proc/${child.pid}/stat`, 'latin1'), /\) Z /, 'still unreaped');
  assert.equal(identify(child.pid), undefined);
  assert.ok(!isAlive(child));
  assert.equal(pidfdSignal(child, 9), false);
  const marked = await findByMark(mark, [], waiting());
  assert.ok(!marked.some(({ pid }) => pid === child.pid));
});

async function soon<T>(look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  for (const deadline = Date.now() + 5000; Date.now() < deadline; ) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error('it never came');
}

test('a process whose first thread has ended lives as long as another one does', async (t) => {
  const python = findProgram('python3');
  if (python === undefined) {
    return void requireOrSkip(t, false, 'needs python3 to end a first thread');
  }
  const script = [
    'import ctypes, os, threading, time',
    'threading.Thread(target=lambda: (time.sleep(0.4), os._exit(7))).start()',
    'ctypes.CDLL(None).pthread_exit(None)',
  ].join('\n');
  const child = await spawnDetached({ program: python, args: ['-c', script], stdio: noStdio });
  const stat = (): string => readFileSync(`/proc/${child.identity.pid}/stat`, 'latin1');
  await soon(() => (/\) Z /.test(stat()) ? true : undefined));
  assert.ok(isAlive(child.identity), 'its files are still open');
  assert.equal((await child.exit).code, 7);
  assert.ok(!isAlive(child.identity));
});

test('waiting ends with the process, or with the patience', async (t) => {
  const { identity } = await sleeper(t);
  await assert.rejects(waitGone(identity, waiting(30)), { name: 'TimeoutError' });
  const gone = waitGone(identity, waiting());
  await kill(identity, waiting());
  await gone;
  await waitGone(identity, waiting());
});
