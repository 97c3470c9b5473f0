import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  constants,
  fstatSync,
  linkSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  closeFd,
  HostError,
  kill,
  lockFile,
  memfd,
  openPath,
  setNonBlocking,
  spawnDetached,
} from '#host';
import { openBeneath } from '../../src/host/files/descriptor.ts';
import { tmpDir } from '../support/tmp.ts';

const waiting = (ms = 5000): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(ms) });

/** The octal flags of an open descriptor as the kernel shows them. */
function flagsOf(fd: number): number {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
  return Number.parseInt(/^flags:\s+(\d+)/m.exec(info)?.[1] ?? '', 8);
}

const cloexec = 0o2000000;

function openFor(t: TestContext, open: () => number): number {
  const fd = open();
  t.after(() => closeFd(fd));
  return fd;
}

test('every descriptor opened here stays out of programs we start', (t) => {
  const dir = tmpDir(t);
  writeFileSync(join(dir, 'file'), '');
  const root = openFor(t, () => openPath(dir, constants.O_RDONLY | constants.O_DIRECTORY));
  const beneath = openFor(t, () => openBeneath(root, 'file', constants.O_RDONLY));
  const memory = openFor(t, () => memfd('test', new Uint8Array()));
  for (const fd of [root, beneath, memory]) assert.ok(flagsOf(fd) & cloexec, `descriptor ${fd}`);
});

test('a FIFO without a reader opens at once for reading and writing', (t) => {
  const fifo = join(tmpDir(t), 'fifo');
  execFileSync('mkfifo', ['-m', '600', fifo]);
  const flags = constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW;
  const fd = openFor(t, () => openPath(fifo, flags));
  assert.ok(fstatSync(fd).isFIFO());
});

test('an error of opening names what is not there, and why', (t) => {
  const path = join(tmpDir(t), 'missing');
  assert.throws(
    () => openPath(path, constants.O_RDONLY),
    (error) =>
      error instanceof HostError && error.errno === 'ENOENT' && error.message.includes(path),
  );
});

test('a link at the end is not followed where that was asked for', (t) => {
  const dir = tmpDir(t);
  symlinkSync('/dev/null', join(dir, 'link'));
  assert.throws(() => openPath(join(dir, 'link'), constants.O_RDWR | constants.O_NOFOLLOW), {
    errno: 'ELOOP',
  });
});

const inside: Record<string, string> = {
  'a file': 'file',
  'a file in a directory': 'sub/file',
  'a link to a file beside it': 'link',
  'a link to a file in another directory inside': 'sub/up',
  'a way up and down again': 'sub/../file',
};
const outside: Record<string, string> = {
  'a way up': '../secret',
  'a way up from a directory': 'sub/../../secret',
  'an absolute path': '/etc/passwd',
  'a link to the outside': 'escape',
  'an absolute link, be it to the inside': 'absolute',
  'a directory that is a link to the outside': 'door/secret',
};

test('V-33 D4: what is opened beneath a directory is inside it, however the name is written', async (t) => {
  const top = tmpDir(t);
  const dir = join(top, 'root');
  mkdirSync(join(dir, 'sub'), { recursive: true });
  writeFileSync(join(top, 'secret'), 'secret');
  writeFileSync(join(dir, 'file'), 'fine');
  writeFileSync(join(dir, 'sub/file'), 'fine');
  symlinkSync('file', join(dir, 'link'));
  symlinkSync('../file', join(dir, 'sub/up'));
  symlinkSync('../secret', join(dir, 'escape'));
  symlinkSync(join(dir, 'file'), join(dir, 'absolute'));
  symlinkSync('..', join(dir, 'door'));
  const root = openFor(t, () => openPath(dir, constants.O_RDONLY | constants.O_DIRECTORY));
  for (const [name, path] of Object.entries(inside)) {
    await t.test(`opens ${name}`, (t) => {
      const fd = openFor(t, () => openBeneath(root, path, constants.O_RDONLY));
      assert.equal(readFileSync(fd, 'utf8'), 'fine');
    });
  }
  for (const [name, path] of Object.entries(outside)) {
    await t.test(`refuses ${name}`, () => {
      assert.throws(() => openBeneath(root, path, constants.O_RDONLY), {
        name: 'HostError',
        errno: 'EXDEV',
      });
    });
  }
  await t.test('does not open a link where that was forbidden', () => {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW;
    assert.throws(() => openBeneath(root, 'link', flags), { errno: 'ELOOP' });
  });
  await t.test('is not fooled by a NUL byte', () => {
    assert.throws(() => openBeneath(root, 'file\0/../../secret', constants.O_RDONLY), HostError);
  });
  await t.test('creates with mode 0600', (t) => {
    const fd = openFor(t, () => openBeneath(root, 'new', constants.O_RDWR | constants.O_CREAT));
    assert.equal(fstatSync(fd).mode & 0o777, 0o600);
  });
  await t.test('reports that it is missing', () => {
    assert.throws(() => openBeneath(root, 'none', constants.O_RDONLY), { errno: 'ENOENT' });
  });
});

test('a hard link shows in the descriptor that was opened', (t) => {
  const dir = tmpDir(t);
  writeFileSync(join(dir, 'one'), '');
  linkSync(join(dir, 'one'), join(dir, 'two'));
  const root = openFor(t, () => openPath(dir, constants.O_RDONLY | constants.O_DIRECTORY));
  const fd = openFor(t, () => openBeneath(root, 'two', constants.O_RDONLY));
  assert.equal(fstatSync(fd).nlink, 2);
});

test('closing twice is fine', (t) => {
  const fd = openPath(tmpDir(t), constants.O_RDONLY);
  closeFd(fd);
  closeFd(fd);
  assert.throws(() => fstatSync(fd), { code: 'EBADF' });
});

test('non-blocking is switched on and off, and nothing else with it', (t) => {
  const fd = openFor(t, () =>
    openPath(join(tmpDir(t), 'file'), constants.O_RDWR | constants.O_CREAT | constants.O_APPEND),
  );
  const before = flagsOf(fd);
  setNonBlocking(fd, true);
  assert.equal(flagsOf(fd), before | constants.O_NONBLOCK);
  setNonBlocking(fd, false);
  assert.equal(flagsOf(fd), before);
});

test('a memory file holds its content and stands at its start', (t) => {
  const content = Buffer.alloc(100_000, 'abc');
  const fd = openFor(t, () => memfd('test', content));
  assert.deepEqual(readFileSync(fd), content);
  assert.equal(fstatSync(fd).nlink, 0);
});

test('a lock is held by one at a time, in this process too', async (t) => {
  const path = join(tmpDir(t), 'lock');
  const first = await lockFile(path, waiting());
  const refused = new Error('enough');
  await assert.rejects(lockFile(path, { signal: AbortSignal.abort(refused) }), refused);
  await assert.rejects(lockFile(path, waiting(30)), { name: 'TimeoutError' });
  const second = lockFile(path, waiting());
  await first[Symbol.asyncDispose]();
  await using _ = await second;
  await first[Symbol.asyncDispose]();
  await assert.rejects(
    lockFile(path, waiting(30)),
    { name: 'TimeoutError' },
    'freed by a stranger',
  );
});

test('twenty takers of one lock never meet', async (t) => {
  const path = join(tmpDir(t), 'lock');
  let holders = 0;
  const turns = Array.from({ length: 20 }, async () => {
    await using _ = await lockFile(path, waiting(20_000));
    holders += 1;
    assert.equal(holders, 1);
    await new Promise(setImmediate);
    holders -= 1;
  });
  await Promise.all(turns);
});

test('what is locked must be a file, and not one behind a link', async (t) => {
  const dir = tmpDir(t);
  symlinkSync('elsewhere', join(dir, 'link'));
  await assert.rejects(lockFile(join(dir, 'link'), waiting()), { errno: 'ELOOP' });
  await assert.rejects(lockFile(dir, waiting()), HostError);
});

test('a lock does not stay with a program that was started meanwhile', async (t) => {
  const path = join(tmpDir(t), 'lock');
  const lock = await lockFile(path, waiting());
  const child = await spawnDetached({ program: '/bin/sleep', args: ['60'], stdio: ['ignore'] });
  t.after(() => kill(child.identity, waiting()));
  await lock[Symbol.asyncDispose]();
  await using _ = await lockFile(path, waiting());
});

test('a descriptor of a file can be written through after a memory file was read', (t) => {
  const fd = openFor(t, () => memfd('test', Buffer.from('abc')));
  writeSync(fd, 'X', 1);
  assert.equal(readFileSync(`/proc/self/fd/${fd}`, 'utf8'), 'aXc');
});

test('a lock holds against another process, and goes when that one is killed', async (t) => {
  const path = join(tmpDir(t), 'lock');
  const script = `
    import { lockFile } from ${JSON.stringify(import.meta.resolve('#host'))};
    const lock = await lockFile(process.argv.at(-1), { signal: AbortSignal.timeout(5000) });
    setInterval(() => lock, 1000);
    process.stdout.write('held');
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, '--', path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  await assert.rejects(lockFile(path, waiting(50)), { name: 'TimeoutError' });
  const mine = lockFile(path, waiting());
  child.kill('SIGKILL');
  await using _ = await mine;
});
