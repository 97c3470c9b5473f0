import assert from 'node:assert/strict';
import fs, { readdirSync, readlinkSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { test } from 'node:test';
import { cpuClockNs, identify, type ProcessIdentity } from '#host';
import { Processes } from '../../src/vm/figures/processes.ts';
import { sleeper } from '../support/sleeper.ts';
import { eventually } from '../support/vm.ts';

const MiB = 2 ** 20;

const own = identify(process.pid) ?? assert.fail('this process runs');

/** Those of this process's descriptors that are files of another process. */
function openFilesOf({ pid }: ProcessIdentity): readonly string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith(`/proc/${pid}/`) ? [path] : [];
    } catch {
      return []; // the descriptor of the list itself
    }
  });
}

test('V-101: figures of several processes are added up, and one that has ended counts nothing', async (t) => {
  const { identity, end } = await sleeper(t);
  using alone = new Processes(own, []);
  using both = new Processes(own, [identity, own]);
  const one = alone.usage();
  assert.ok(one.rssBytes > MiB && one.cpuUserNs > 0);
  assert.ok((one.maxRssBytes ?? 0) >= one.rssBytes / 2);
  const all = both.usage();
  assert.ok(all.rssBytes > 1.5 * one.rssBytes, `${all.rssBytes} of all, ${one.rssBytes} of one`);
  await end();
  assert.ok(both.usage().rssBytes > 1.5 * one.rssBytes);
  using gone = new Processes(identity, []);
  const nothing = { cpuUserNs: 0, cpuSystemNs: 0, rssBytes: 0 };
  assert.deepEqual(gone.usage(), { ...nothing, maxRssBytes: undefined, swapBytes: undefined });
});

test('V-101: a process that got the pid of one that has ended is not measured', async (t) => {
  const { identity } = await sleeper(t);
  using later = new Processes({ ...identity, startTicks: '1' }, []);
  assert.equal(later.usage().rssBytes, 0);
  using real = new Processes(identity, []);
  assert.ok(real.usage().rssBytes > 0);
});

test('V-101: files of processes are open from the first sample on, and until the VM has ended', async (t) => {
  const { identity, end } = await sleeper(t);
  const processes = new Processes(own, [identity]);
  assert.deepEqual(openFilesOf(identity), []);
  processes.usage();
  processes.usage();
  const files = ['stat', 'status'].map((file) => `/proc/${identity.pid}/${file}`);
  assert.deepEqual(openFilesOf(identity), files);
  processes[Symbol.dispose]();
  assert.deepEqual(openFilesOf(identity), []);
  assert.equal(processes.usage().rssBytes, 0, 'and not opened again');

  using ended = new Processes(identity, []);
  ended.usage();
  await end();
  ended.usage();
  assert.deepEqual(openFilesOf(identity), [], 'nor kept of a process that has ended');
});

test('V-101: a process that rests is not read again, and is as soon as it has used CPU time or has ended', async (t) => {
  const { identity, end } = await sleeper(t);
  const read = t.mock.method(fs, 'readSync');
  syncBuiltinESMExports();
  t.after(() => {
    t.mock.restoreAll();
    syncBuiltinESMExports();
  });
  using processes = new Processes(identity, []);
  const reads = (): number => {
    const before = read.mock.callCount();
    assert.ok(processes.usage().rssBytes > 0);
    return read.mock.callCount() - before;
  };
  assert.ok(reads() > 0);
  await eventually(() => reads() === 0, 'rest'); // at first it starts its program

  using busy = new Processes(own, []);
  const first = busy.usage();
  while ((cpuClockNs(own.pid) ?? 0) < first.cpuUserNs + first.cpuSystemNs + 50e6);
  const second = busy.usage();
  const usedNs = second.cpuUserNs + second.cpuSystemNs - first.cpuUserNs - first.cpuSystemNs;
  assert.ok(usedNs > 0, `${usedNs} ns`);

  await end();
  assert.equal(cpuClockNs(identity.pid), undefined);
  assert.equal(processes.usage().rssBytes, 0);
});
