import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { HostError, kill, memfd, runProgram, spawnDetached } from '#host';
import type { ProcessLimits } from '../../src/host/process/limits.ts';
import { closedAgain, openFds } from '../support/open-files.ts';
import { tmpDir } from '../support/tmp.ts';

const waiting = (ms = 10_000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });

/** Runs a shell line detached and gives what it wrote into descriptor 1. */
async function sayDetached(
  t: TestContext,
  line: string,
  more: {
    readonly fds?: readonly number[];
    readonly env?: Record<string, string>;
    readonly limits?: ProcessLimits;
  } = {},
): Promise<string> {
  const path = join(tmpDir(t), 'out');
  const out = openSync(path, 'w');
  const child = await spawnDetached({
    program: '/bin/sh',
    args: ['-c', line],
    stdio: ['ignore', out, out, ...(more.fds ?? [])],
    ...(more.env && { env: more.env }),
    ...(more.limits && { limits: more.limits }),
  });
  closeSync(out);
  assert.deepEqual(await child.exit, { code: 0, signal: null });
  return readFileSync(path, 'utf8').trim();
}

test('a detached program has its own session and group, and none of our environment', async (t) => {
  const text = await sayDetached(t, 'cut -d" " -f1,5,6 /proc/self/stat; env; echo $$');
  const [stat = '', ...rest] = text.split('\n');
  const [, group, session] = stat.split(' ');
  const shell = rest.at(-1);
  assert.equal(group, shell);
  assert.equal(session, shell);
  // What a shell adds by itself.
  assert.deepEqual(
    rest.slice(0, -1).filter((line) => !/^(PWD|SHLVL|_)=/.test(line)),
    [],
  );
  assert.equal(await sayDetached(t, 'echo $MARK', { env: { MARK: 'set' } }), 'set');
});

test('a detached program that yields has a lower priority, as has the group of its session', async () => {
  const child = await spawnDetached({
    program: '/bin/sleep',
    args: ['60'],
    stdio: [],
    yields: true,
  });
  try {
    const { pid } = child.identity;
    assert.equal(getPriority(pid), 10);
    const group = `/proc/${pid}/autogroup`;
    if (existsSync(group)) assert.match(readFileSync(group, 'utf8'), /nice 10$/m);
  } finally {
    await kill(child.identity, waiting());
  }
});

test('a detached program has exactly the descriptors it was given', async (t) => {
  const fd = memfd('given', Buffer.from('content'));
  const kept = memfd('kept', new Uint8Array());
  // No pipe in the line: the shell itself has its end open for a moment.
  const text = await sayDetached(t, 'cat <&3; echo; ls /proc/$$/fd', { fds: [fd] });
  closeSync(fd);
  closeSync(kept);
  assert.equal(text, 'content\n0\n1\n2\n3');
});

test('descriptors are those that were given, whatever their numbers are here', async (t) => {
  using open = new DisposableStack();
  const fds = Array.from({ length: 40 }, (_, at) =>
    open.adopt(memfd(`given ${at}`, Buffer.from(`${at} `)), closeSync),
  );
  const line = `cat ${fds.map((_, at) => `/proc/self/fd/${at + 3}`).join(' ')}`;
  const [low = 0, ...others] = fds;
  const orders = {
    backwards: fds.toReversed(),
    'by one': [...others, low],
    twice: [...fds, ...fds],
  };
  for (const [name, given] of Object.entries(orders)) {
    const wanted = given.slice(0, fds.length).map((fd) => fds.indexOf(fd));
    assert.equal(await sayDetached(t, line, { fds: given }), wanted.join(' '), name);
  }
});

test('what is not given of the first three descriptors is /dev/null, and none is opened for it here', async () => {
  for (const stdio of [[], ['ignore'], ['ignore', 'ignore']] as const) {
    const before = await openFds();
    const child = await spawnDetached({ program: '/bin/sleep', args: ['60'], stdio });
    try {
      await closedAgain(before);
      const there = [0, 1, 2].map((fd) => readlinkSync(`/proc/${child.identity.pid}/fd/${fd}`));
      assert.deepEqual(there, ['/dev/null', '/dev/null', '/dev/null']);
    } finally {
      await kill(child.identity, waiting());
    }
  }
});

test('where one descriptor can not be given, no program starts and none stays open', async () => {
  const kept = memfd('kept', new Uint8Array());
  const start = (fds: readonly number[]) =>
    spawnDetached({
      program: '/bin/true',
      args: [],
      stdio: ['ignore', 'ignore', 'ignore', ...fds],
    });
  const before = await openFds();
  await assert.rejects(start([kept, kept, 999_999]), { name: 'HostError', errno: 'EBADF' });
  await closedAgain(before);
  closeSync(kept);
});

test('a detached program leaves no core file, and ours is our own affair', async (t) => {
  const own = (): string =>
    /^Max core.*/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[0] ?? '';
  const before = own();
  assert.match(await sayDetached(t, 'grep core /proc/self/limits'), /size +0 /);
  assert.equal(own(), before);
});

test('nothing of the memory of a detached program is dumped, and ours as before', async (t) => {
  const own = (): string => readFileSync('/proc/self/coredump_filter', 'latin1');
  const before = own();
  assert.match(await sayDetached(t, 'cat /proc/self/coredump_filter'), /^0+$/);
  assert.equal(own(), before);
});

test('limits are there when a detached program begins, and ours as before', async (t) => {
  const own = (): string => readFileSync('/proc/self/limits', 'utf8');
  const before = own();
  const limits = { openFiles: 77, processes: 10_000_000 };
  const text = await sayDetached(t, 'ulimit -Sn; cat /proc/self/limits', { limits });
  assert.match(text, /^77\n/);
  const lineOf = (all: string): string => /^Max processes.*/m.exec(all)?.[0] ?? '';
  assert.equal(lineOf(text), lineOf(before), 'a limit that is lower already stays');
  assert.equal(own(), before);
});

test('a process with more files open than the program may have starts it', async (t) => {
  using open = new DisposableStack();
  for (let file = 0; file < 100; file += 1) open.adopt(openSync('/dev/null', 'r'), closeSync);
  assert.match(await sayDetached(t, 'ulimit -Sn', { limits: { openFiles: 77 } }), /^77$/m);
});

test('the identity is right even of a program that ends at once', async () => {
  for (let round = 0; round < 20; round += 1) {
    const child = await spawnDetached({ program: '/bin/true', args: [], stdio: [] });
    assert.ok(child.identity.pid > 0);
    assert.match(child.identity.startTicks, /^\d+$/);
    assert.deepEqual(await child.exit, { code: 0, signal: null });
  }
});

test('the end of a program that has ended before it is waited for is known at once', async () => {
  // In a process that nothing else wakes up for seconds.
  const script = `
    import { readFileSync } from 'node:fs';
    import { exitOf, startChild } from '${import.meta.resolve('../../src/host/process/child.ts')}';
    const stdio = ['ignore', 'ignore', 'ignore'];
    const pid = startChild({ program: '/bin/true', args: [], env: {}, stdio });
    while (!/[)] Z /.test(readFileSync('/proc/' + pid + '/stat', 'latin1')));
    await new Promise((resolve) => setTimeout(resolve, 10));
    setTimeout(() => undefined, 10_000);
    const begun = performance.now();
    await exitOf(pid);
    process.exit(performance.now() - begun < 5000 ? 0 : 1);`;
  const args = ['--input-type=module', '-e', script];
  const { code, stderr } = await runProgram({ program: process.execPath, args }, waiting(30_000));
  assert.deepEqual([code, stderr], [0, '']);
});

test('a program that cannot start is an error that names it and the reason', async (t) => {
  const dir = tmpDir(t);
  const plain = join(dir, 'plain');
  writeFileSync(plain, 'text');
  const broken = join(dir, 'broken');
  writeFileSync(broken, '#!/no/such/interpreter\n');
  chmodSync(broken, 0o755);
  symlinkSync('loop', join(dir, 'loop'));
  const reasons = {
    [join(dir, 'missing')]: 'ENOENT',
    [plain]: 'EACCES',
    [dir]: 'EACCES',
    [broken]: 'ENOENT',
    [join(dir, 'loop')]: 'ELOOP',
  };
  for (const [program, errno] of Object.entries(reasons)) {
    const expected = (error: unknown): boolean =>
      error instanceof HostError && error.errno === errno && error.message.includes(program);
    await assert.rejects(spawnDetached({ program, args: [], stdio: [] }), expected);
    await assert.rejects(runProgram({ program, args: [] }, waiting()), expected);
  }
  const cwd = join(dir, 'nowhere');
  const start = spawnDetached({ program: '/bin/true', args: [], cwd, stdio: [] });
  await assert.rejects(start, { name: 'HostError', errno: 'ENOENT' });
});

test('V-97: the starter may end while the program runs on', async (t) => {
  const script = `
    import { spawnDetached } from ${JSON.stringify(import.meta.resolve('#host'))};
    const child = await spawnDetached({ program: '/bin/sleep', args: ['60'], stdio: ['ignore', 'ignore', 'ignore'] });
    console.log(JSON.stringify(child.identity));
  `;
  const args = ['--input-type=module', '-e', script];
  const { code, stdout, stderr } = await runProgram(
    { program: process.execPath, args },
    waiting(20_000),
  );
  assert.equal(code, 0, stderr);
  const identity = JSON.parse(stdout);
  t.after(() => kill(identity, waiting()));
  assert.match(readFileSync(`/proc/${identity.pid}/stat`, 'latin1'), /\(sleep\) [SR]/);
});
