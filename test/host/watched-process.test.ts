import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { cpuClockNs, type ProcessIdentity, WatchedProcess } from '#host';
import { patient } from '../support/patience.ts';
import { sleeper } from '../support/sleeper.ts';

/** How many files of that process this one has open. */
function openFilesOf({ pid }: ProcessIdentity): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`/proc/${pid}/`);
    } catch {
      return false; // the descriptor of the list itself
    }
  }).length;
}

test('a process that is watched is alive until it has ended, with one file open meanwhile', async (t) => {
  const { identity, end } = await sleeper(t);
  using watched = new WatchedProcess(identity);
  assert.equal(openFilesOf(identity), 0);
  assert.ok(watched.isAlive() && watched.isAlive());
  assert.equal(openFilesOf(identity), 1);
  await end();
  assert.ok(!watched.isAlive() && !watched.isAlive());
  assert.equal(openFilesOf(identity), 0);
});

test('one that ended before the first look, or has the pid of another, is not alive', async (t) => {
  const { identity, end } = await sleeper(t);
  using other = new WatchedProcess({ ...identity, startTicks: '1' });
  assert.ok(!other.isAlive());
  using later = new WatchedProcess(identity);
  await end();
  assert.ok(!later.isAlive());
  assert.equal(openFilesOf(identity), 0);
});

test('after disposal it is looked at as well, without a file that stays open', async (t) => {
  const { identity, end } = await sleeper(t);
  const watched = new WatchedProcess(identity);
  assert.ok(watched.isAlive());
  watched[Symbol.dispose]();
  assert.ok(watched.isAlive());
  assert.equal(openFilesOf(identity), 0);
  await end();
  assert.ok(!watched.isAlive());
});

test('one that has ended and is not reaped yet is not alive, however often it is looked at', async (t) => {
  const { identity } = await sleeper(t);
  using watched = new WatchedProcess(identity);
  assert.ok(watched.isAlive());
  process.kill(identity.pid, 'SIGKILL');
  // Node reaps it in a later turn of its loop.
  const untilMs = performance.now() + patient(5000);
  while (watched.isAlive()) assert.ok(performance.now() < untilMs, 'it has ended');
  const looks = Array.from({ length: 3 }, () => watched.isAlive());
  assert.deepEqual(looks, [false, false, false]);
  assert.notEqual(cpuClockNs(identity.pid), undefined, 'which needs a clock that stands still');
});
