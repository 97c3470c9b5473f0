import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  bindDirectory,
  HostError,
  joinCgroup,
  kill,
  limitProcess,
  memfd,
  mountTmpfs,
  oomKills,
  planCgroup,
  runProgram,
  type SpawnedProcess,
  spawnDetached,
  unmount,
} from '#host';
import { loadBytes } from '../../src/host/native/native.ts';
import { setAffinity } from '../../src/host/process/limits.ts';
import { addonBytes } from '../support/addon.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const waiting = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(patient(10_000)) });
const isRoot = process.getuid?.() === 0;

async function shell(t: TestContext, line: string): Promise<SpawnedProcess> {
  const stdio = ['ignore', 'ignore', 'ignore'] as const;
  const child = await spawnDetached({ program: '/bin/sh', args: ['-c', line], stdio });
  t.after(() => kill(child.identity, waiting()));
  return child;
}

test('V-129: a program runs as another user with no group and no right of ours', async (t) => {
  if (!requireOrSkip(t, isRoot, 'needs root to become another user')) return;
  const own = () =>
    readFileSync('/proc/thread-self/status', 'utf8').match(/^(Uid|Gid|Groups|Cap).*/gm);
  const before = own();
  const out = memfd('out', new Uint8Array());
  const child = await spawnDetached({
    program: '/bin/cat',
    args: ['/proc/self/status'],
    uid: 54_321,
    gid: 54_322,
    stdio: ['ignore', out, out],
  });
  assert.equal((await child.exit).code, 0);
  assert.deepEqual(own(), before, 'this process is who it was');
  const status = readFileSync(`/proc/self/fd/${out}`, 'utf8');
  closeSync(out);
  assert.match(status, /^Uid:\s+54321\s+54321\s+54321\s+54321$/m);
  assert.match(status, /^Gid:\s+54322\s+54322\s+54322\s+54322$/m);
  assert.match(status, /^Groups:\s*$/m);
  for (const set of ['CapPrm', 'CapEff', 'CapAmb']) {
    assert.match(status, new RegExp(`^${set}:\\s+0+$`, 'm'));
  }
});

test('V-129: a user’s program that can not be run leaves this process who it was', async (t) => {
  if (!requireOrSkip(t, isRoot, 'needs root to become another user')) return;
  const dir = tmpDir(t);
  const program = join(dir, 'program');
  writeFileSync(program, '#!/bin/sh\n', { mode: 0o700 });
  const start = spawnDetached({ program, args: [], stdio: [], uid: 54_321, gid: 54_321 });
  await assert.rejects(start, {
    name: 'HostError',
    errno: 'EACCES',
    message: /starting .*program/,
  });
  assert.match(readFileSync('/proc/thread-self/status', 'utf8'), /^Uid:\s+0\s+0\s+0\s+0$/m);
});

test('a program that its user may not run is an error', async (t) => {
  if (!requireOrSkip(t, isRoot, 'needs root to become another user')) return;
  const dir = tmpDir(t);
  const program = join(dir, 'program');
  writeFileSync(program, '#!/bin/sh\n', { mode: 0o755 });
  const run = runProgram({ program, args: [], uid: 54_321, gid: 54_321 }, waiting());
  await assert.rejects(run, { name: 'HostError', errno: 'EACCES' });
});

test('memory file systems and read-only binds come with every restriction, and go', async (t) => {
  if (!requireOrSkip(t, isRoot, 'needs root to mount')) return;
  const dir = tmpDir(t);
  const [memory, bound] = [join(dir, 'memory'), join(dir, 'bound')];
  for (const path of [memory, bound]) mkdirSync(path);
  using _ = { [Symbol.dispose]: () => [bound, memory].forEach(unmount) };
  mountTmpfs(memory, { sizeBytes: 1 << 20, mode: 0o700, maxFiles: 8 });
  const optionsOf = (path: string): string =>
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .findLast((line) => line.split(' ')[4] === path) ?? '';
  assert.match(
    optionsOf(memory),
    / rw,nosuid,nodev,noexec.* - tmpfs .*size=1024k,nr_inodes=8,mode=700/,
  );
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (major * 100 + minor >= 604) assert.match(optionsOf(memory), /,noswap$/);
  writeFileSync(join(memory, 'file'), 'text');
  const many = (): void => {
    for (let n = 0; n < 8; n += 1) writeFileSync(join(memory, `more${n}`), '');
  };
  assert.throws(many, { code: 'ENOSPC' });
  assert.throws(() => writeFileSync(join(memory, 'big'), Buffer.alloc(2 << 20)), {
    code: 'ENOSPC',
  });
  bindDirectory(memory, bound, { writable: false });
  assert.match(optionsOf(bound), / ro,nosuid,nodev,noexec/);
  assert.equal(readFileSync(join(bound, 'file'), 'utf8'), 'text');
  assert.throws(() => writeFileSync(join(bound, 'file'), 'x'), { code: 'EROFS' });
  writeFileSync(join(memory, 'file'), 'still writable from its own side');
  unmount(bound);
  assert.equal(optionsOf(bound), '');
  // In use, and gone all the same.
  const held = openSync(join(memory, 'file'), 'r');
  unmount(memory);
  closeSync(held);
  assert.equal(optionsOf(memory), '');
  unmount(memory);
  unmount(join(dir, 'never-there'));
});

test('V-132: an addon is loaded although the first directory is mounted noexec', (t) => {
  if (!requireOrSkip(t, isRoot, 'needs root to mount')) return;
  const dir = tmpDir(t);
  const [noexec, good] = [join(dir, 'noexec'), join(dir, 'good')];
  for (const path of [noexec, good]) mkdirSync(path);
  mountTmpfs(noexec, { sizeBytes: 8 << 20, mode: 0o700 });
  // Not in t.after: hooks run in the order they were set, and the directory's would come first.
  using _ = { [Symbol.dispose]: () => unmount(noexec) };
  const bytes = addonBytes();
  assert.throws(() => loadBytes('koffi', bytes, [noexec]), { name: 'HostError' });
  assert.ok(loadBytes('koffi', bytes, [noexec, good]));
  assert.deepEqual([readdirSync(noexec), readdirSync(good)], [[], []]);
});

test('an error of a mount names what and why, and no half of it is left', async (t) => {
  if (!requireOrSkip(t, isRoot, 'needs root to mount')) return;
  const dir = tmpDir(t);
  const missing = join(dir, 'missing');
  for (const act of [
    () => mountTmpfs(missing, { sizeBytes: 1, mode: 0o700 }),
    () => bindDirectory(dir, missing, { writable: false }),
    () => bindDirectory(missing, dir, { writable: false }),
  ]) {
    assert.throws(
      act,
      (error) =>
        error instanceof HostError && error.errno === 'ENOENT' && error.message.includes(missing),
    );
  }
});

test('V-72: a thread is pinned to its cores', async (t) => {
  const { identity } = await shell(t, 'exec sleep 60');
  const allowed = (): string =>
    /^Cpus_allowed_list:\s+(.*)$/m.exec(
      readFileSync(`/proc/${identity.pid}/status`, 'utf8'),
    )?.[1] ?? '';
  setAffinity(identity.pid, [0]);
  assert.equal(allowed(), '0');
  assert.throws(() => setAffinity(identity.pid, [1000]), { name: 'HostError', errno: 'EINVAL' });
  assert.throws(() => setAffinity(identity.pid, []), { name: 'HostError', errno: 'EINVAL' });
  assert.throws(() => setAffinity(identity.pid, [-1]), RangeError);
  assert.throws(() => setAffinity(2 ** 22 + 1, [0]), { name: 'HostError', errno: 'ESRCH' });
});

test('limits arrive in the process, and only those named', async (t) => {
  const { identity } = await shell(t, 'exec sleep 60');
  const limits = (): string => readFileSync(`/proc/${identity.pid}/limits`, 'utf8');
  const files = /^Max open files.*/m.exec(limits())?.[0];
  limitProcess(identity.pid, { core: 0, fileSize: 3 * 2 ** 32, cpuSeconds: 1000 });
  assert.match(limits(), /^Max core file size +0 +0 /m);
  assert.match(limits(), /^Max file size +12884901888 +12884901888 /m);
  assert.match(limits(), /^Max cpu time +1000 +1000 /m);
  assert.equal(/^Max open files.*/m.exec(limits())?.[0], files);
  assert.throws(() => limitProcess(2 ** 22 + 1, { core: 0 }), {
    name: 'HostError',
    errno: 'ESRCH',
  });
});

test('V-74: a process joins the groups of its task, is limited, and its OOM kill is counted', async (t) => {
  const root = '/sys/fs/cgroup';
  const isV1 = existsSync(`${root}/memory/memory.limit_in_bytes`);
  if (!requireOrSkip(t, isRoot && isV1, 'needs root and cgroup v1 with memory')) return;
  const parent = `nq-test-${process.pid}`;
  const own = 'alloc.task';
  const made = [
    ...['cpu', 'memory'].flatMap((it) => [
      `${root}/${it}/${parent}`,
      `${root}/${it}/${parent}/${own}`,
    ]),
    ...['', '/share', '/reserve', `/reserve/${own}`].map((it) => `${root}/cpuset/${parent}${it}`),
  ];
  for (const group of made) mkdirSync(group);
  t.after(async () => {
    for (const group of made.toReversed()) await removeGroup(group);
  });
  for (const it of ['', '/share', '/reserve']) {
    const group = `${root}/cpuset/${parent}${it}`;
    for (const name of ['cpuset.cpus', 'cpuset.mems']) {
      writeFileSync(join(group, name), readFileSync(`${root}/cpuset/${name}`));
    }
  }
  const request = {
    cgroupPath: `${root}/cpuset/${parent}/reserve/${own}`,
    allocId: 'alloc',
    taskName: 'task',
    memoryBytes: 32 << 20,
    cpuShares: 100,
    cores: [0],
  };
  const plan = planCgroup(request, existsSync);
  assert.ok(plan);
  assert.deepEqual([plan.version, plan.groups.length, plan.writes.length], [1, 3, 3]);
  // Waits to be moved, then asks for more memory than it may have.
  const line = `while ! grep -q ${parent} /proc/self/cgroup; do sleep 0.02; done; exec dd if=/dev/zero of=/dev/null bs=200M count=1`;
  const child = await shell(t, line);
  assert.equal(oomKills(plan), 0);
  const sharing = new RegExp(`cpuset:/(.*/)?${parent}/share$`, 'm');
  // Cores that Nomad has given back meanwhile can't be had.
  writeFileSync(`${root}/cpuset/${parent}/reserve/cpuset.cpus`, '\n');
  const early = await shell(t, 'exec sleep 100');
  assert.deepEqual(joinCgroup(plan, early.identity.pid), { sharesCores: true });
  assert.match(readFileSync(`/proc/${early.identity.pid}/cgroup`, 'utf8'), sharing);
  process.kill(early.identity.pid, 'SIGKILL');
  await early.exit;
  writeFileSync(
    `${root}/cpuset/${parent}/reserve/cpuset.cpus`,
    readFileSync(`${root}/cpuset/cpuset.cpus`),
  );
  assert.deepEqual(joinCgroup(plan, child.identity.pid), { sharesCores: false });
  for (const group of plan.groups) {
    const pids = readFileSync(`${group}/cgroup.procs`, 'utf8').split('\n');
    assert.ok(pids.includes(String(child.identity.pid)), group);
  }
  assert.equal(readFileSync(`${root}/cpu/${parent}/${own}/cpu.shares`, 'utf8').trim(), '100');
  assert.equal((await child.exit).signal, 'SIGKILL');
  assert.equal(oomKills(plan), 1);
});

/** A group is busy for a moment after its last process has gone. */
async function removeGroup(group: string): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    try {
      rmdirSync(group);
      return;
    } catch (error) {
      if (tries === 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
