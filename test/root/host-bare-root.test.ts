import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { findByMark, kill, spawnDetached } from '#host';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const isRoot = (t: TestContext): boolean =>
  requireOrSkip(t, process.getuid?.() === 0, 'needs root: namespaces');
const soon = (): { readonly signal: AbortSignal } => ({
  signal: AbortSignal.timeout(patient(10_000)),
});
/** What there is in a bare root. */
const usual =
  /^\/(|etc|etc\/ld\.so\.cache|dev|dev\/(null|zero|urandom|kvm)|usr(\/.*)?|s?bin|lib(32|64)?)$/;
const nobody = { uid: 65_534, gid: 65_534 };

/** What a shell script in a bare root prints, on both of its outputs. */
async function inside(t: TestContext, script: string, as: object = {}): Promise<string> {
  const path = join(tmpDir(t), 'out');
  const out = openSync(path, 'w');
  const child = await spawnDetached({
    program: '/bin/sh',
    args: ['-c', script],
    env: { PATH: '/usr/bin:/bin:/usr/sbin' },
    cwd: '/',
    stdio: ['ignore', out, out],
    alone: true,
    bareRoot: true,
    ...as,
  });
  closeSync(out);
  await child.exit;
  return readFileSync(path, 'utf8').trim();
}

/** Where this process is, as its main thread and its pool see it. */
async function whereabouts(): Promise<readonly unknown[]> {
  const inPool = await Promise.all(
    Array.from({ length: 8 }, () => readlink('/proc/thread-self/ns/mnt')),
  );
  return [
    readlinkSync('/proc/self/ns/mnt'),
    readlinkSync('/proc/self/root'),
    readlinkSync('/proc/self/cwd'),
    process.cwd(),
    readdirSync('/').toSorted(),
    (await readdir('/')).toSorted(),
    [...new Set(inPool)],
  ];
}

test('design-3: a program in a bare root sees programs, libraries and devices, and nothing else of the host', async (t) => {
  if (!isRoot(t)) return;
  const secret = join(tmpDir(t), 'secret');
  writeFileSync(secret, 'everybody may read this', { mode: 0o644 });
  const seen = await inside(t, 'for it in $(find / -xdev -not -type l); do echo $it; done');
  assert.deepEqual(
    seen.split('\n').filter((it) => !usual.test(it)),
    [],
  );
  const closed = [
    ...[secret, '/etc/passwd', '/etc/hostname', '/proc/1/environ', '/proc/self/root/etc/passwd'],
    ...['/home', '/root', '/run', '/tmp', '/var', '/srv', '/sys', '/dev/mem', '/dev/shm'],
  ];
  assert.equal(
    await inside(t, `for it in ${closed.join(' ')}; do test -e $it && echo $it; done`),
    '',
  );
  assert.equal(
    await inside(t, 'cat /etc/passwd', nobody),
    'cat: /etc/passwd: No such file or directory',
  );
});

test('design-3: nothing can be written to what a bare root shows, and there is no way out of it', async (t) => {
  if (!isRoot(t)) return;
  for (const path of ['/', '/usr', '/etc', '/dev', '/lib', '/etc/ld.so.cache']) {
    const name = path.endsWith('cache') ? path : join(path, 'planted');
    assert.match(await inside(t, `: > ${name}`), /Read-only file system/, path);
  }
  assert.equal(await inside(t, 'echo x > /dev/null && head -c 3 /dev/zero | wc -c'), '3');
  // The root of the mounts is the bare root itself: there is nothing above it and nothing beneath it.
  assert.equal(
    await inside(t, 'cd /; cd ../../..; umount -l / 2>/dev/null; test -e etc/passwd && echo out'),
    '',
  );
});

test('design-3: /dev/kvm can be opened in a bare root where the host has it', async (t) => {
  if (!isRoot(t)) return;
  if (!requireOrSkip(t, existsSync('/dev/kvm'), 'needs /dev/kvm')) return;
  assert.equal(await inside(t, 'exec 3<>/dev/kvm && echo open'), 'open');
});

test('this process stays at home with all its threads, and others do not see the mounts of a bare root', async (t) => {
  if (!isRoot(t)) return;
  const mounts = (): string => readFileSync('/proc/self/mountinfo', 'utf8');
  const before = [await whereabouts(), mounts()];
  await inside(t, 'true');
  assert.deepEqual([await whereabouts(), mounts()], before);
  // A thread that is made afterwards begins at home.
  const script = `require('node:worker_threads').parentPort.postMessage(require('node:fs').readFileSync('/etc/passwd', 'utf8'))`;
  const worker = new Worker(script, { eval: true });
  t.after(() => worker.terminate());
  const said = await new Promise((resolve) => worker.once('message', resolve));
  assert.equal(said, await readFile('/etc/passwd', 'utf8'));
  await inside(t, 'true');
  assert.deepEqual([await whereabouts(), mounts()], before);
});

test('a directory that was chosen stays the working directory', async (t) => {
  if (!isRoot(t)) return;
  const home = process.cwd();
  t.after(() => process.chdir(home));
  const chosen = tmpDir(t);
  mkdirSync(join(chosen, 'here'));
  process.chdir(join(chosen, 'here'));
  await inside(t, 'true');
  assert.equal(process.cwd(), join(chosen, 'here'));
  assert.equal(readlinkSync('/proc/self/cwd'), join(chosen, 'here'));
});

test('a program that can not be started in a bare root leaves this process at home', async (t) => {
  if (!isRoot(t)) return;
  const program = join(tmpDir(t), 'program');
  writeFileSync(program, '#!/bin/sh\n', { mode: 0o755 });
  const before = await whereabouts();
  const start = spawnDetached({ program, args: [], stdio: [], bareRoot: true });
  await assert.rejects(start, { code: 'system', errno: 'ENOENT' });
  assert.deepEqual(await whereabouts(), before);
});

test('a process in a bare root is found by mark, user and program, and none of its memory is dumped', async (t) => {
  if (!isRoot(t)) return;
  const mark = `bare-root-${process.pid}`;
  const child = await spawnDetached({
    program: '/usr/bin/tail',
    args: ['-f', '/dev/null', mark],
    stdio: [],
    alone: true,
    bareRoot: true,
    ...nobody,
  });
  try {
    const found = await findByMark(mark, [nobody.uid], soon());
    assert.deepEqual(
      found.map(({ pid, uid }) => ({ pid, uid })),
      [{ pid: child.identity.pid, uid: nobody.uid }],
    );
    assert.equal(readlinkSync(`/proc/${child.identity.pid}/exe`), '/usr/bin/tail');
    assert.match(readFileSync(`/proc/${child.identity.pid}/coredump_filter`, 'latin1'), /^0+$/m);
  } finally {
    await kill(child.identity, soon());
  }
});

test('no host file system is kept busy by a bare root but the one with the programs', async (t) => {
  if (!isRoot(t)) return;
  const shown = await spawnDetached({
    program: '/bin/sleep',
    args: ['60'],
    stdio: [],
    bareRoot: true,
  });
  try {
    const targets = readFileSync(`/proc/${shown.identity.pid}/mountinfo`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '');
    assert.deepEqual(
      targets.filter((it) => !usual.test(it)),
      [],
    );
  } finally {
    await kill(shown.identity, soon());
  }
});

test('a process that can not return home from a bare root ends itself', (t) => {
  if (!isRoot(t)) return;
  const room = join(import.meta.dirname, '../../src/host/process/bare-root.ts');
  // It closes every way back: the descriptors of its home are among those that it opened last.
  const script = `
    const { closeSync, readdirSync } = await import('node:fs');
    const { inBareRoot } = await import(${JSON.stringify(room)});
    const before = readdirSync('/proc/self/fd').map(Number);
    inBareRoot(() => {
      for (let fd = 3; fd < 256; fd += 1) {
        if (before.includes(fd)) continue;
        try { closeSync(fd); } catch {}
      }
    });
    console.log('went on');`;
  const ended = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: tmpDir(t),
    encoding: 'utf8',
  });
  assert.equal(ended.signal, 'SIGABRT', ended.stderr);
  assert.equal(ended.stdout, '');
  assert.match(ended.stderr, /cannot return from a namespace \(EBADF\)/);
});

test("a bare root is made anew when the loader's cache was replaced, and the former one is let go", async (t) => {
  if (!isRoot(t)) return;
  const cache = '/etc/ld.so.cache';
  if (!requireOrSkip(t, existsSync(cache), `needs ${cache}`)) return;
  const look = async (): Promise<{ namespace: string; cache: string }> => {
    const { identity } = await spawnDetached({
      program: '/bin/sleep',
      args: ['60'],
      stdio: [],
      bareRoot: true,
    });
    try {
      const { ino } = statSync(`/proc/${identity.pid}/root${cache}`);
      return { namespace: readlinkSync(`/proc/${identity.pid}/ns/mnt`), cache: String(ino) };
    } finally {
      await kill(identity, soon());
    }
  };
  const first = await look();
  assert.deepEqual(await look(), first);
  const descriptors = readdirSync('/proc/self/fd').length;
  // As ldconfig does it: another file takes the place of the former one.
  const newer = join(tmpDir(t), 'ld.so.cache');
  copyFileSync(cache, newer);
  execFileSync('mount', ['--bind', newer, cache]);
  try {
    const second = await look();
    assert.notEqual(second.namespace, first.namespace);
    assert.equal(second.cache, String(statSync(newer).ino));
    assert.equal(readdirSync('/proc/self/fd').length, descriptors);
  } finally {
    execFileSync('umount', [cache]);
  }
  assert.equal((await look()).cache, first.cache);
});
