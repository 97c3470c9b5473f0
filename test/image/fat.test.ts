import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { FatDirectory, type ImageRoots } from '../../src/image/index.ts';
import { findProgram } from '../support/programs.ts';
import { notAllowed } from '../support/refused.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(20_000) });
const label = 'cidata';

/** `task/` is written by tasks, `images/` is the operator's, `host/` is nothing of theirs. */
function hostOf(t: TestContext) {
  const root = tmpDir(t);
  const at = (path: string): string => join(root, path);
  for (const dir of ['task/local', 'task/private', 'images', 'host']) {
    mkdirSync(at(dir), { recursive: true });
  }
  writeFileSync(at('host/secret'), 'CANARY');
  writeFileSync(at('task/private/key'), 'CANARY');
  const roots: ImageRoots = {
    trusted: [at('images')],
    task: [at('task')],
    denied: [at('task/private')],
    relativeTo: [at('task'), at('images')],
    seenAs: [{ path: '/local', dir: at('task/local') }],
  };
  const put = (path: string, content: string | Buffer): void => {
    mkdirSync(dirname(at(path)), { recursive: true });
    writeFileSync(at(path), content);
  };
  const open = (name: string) => FatDirectory.open(name, { roots, label }, soon());
  return { at, put, open, roots };
}

async function written(directory: FatDirectory, path: string): Promise<string> {
  const fd = openSync(path, 'wx+');
  try {
    await directory.write(fd, soon());
  } finally {
    closeSync(fd);
  }
  return path;
}

/** What another implementation finds on the disk. */
function unpack(disk: string, to: string): void {
  mkdirSync(to);
  const partition = `${disk}@@${63 * 512}`;
  execFileSync('mcopy', ['-s', '-Q', '-m', '-n', '-i', partition, '::', to], {
    env: { ...process.env, MTOOLS_SKIP_CHECK: '0', TZ: 'UTC', LC_ALL: 'C.UTF-8' },
  });
}

function treeOf(dir: string): Readonly<Record<string, string>> {
  const paths = readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    paths
      .map((path) => [path.slice(dir.length + 1), readFileSync(path, 'latin1')] as const)
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
}

test('V-136: the disk of a directory has its files, as another implementation of FAT reads them', async (t) => {
  if (!requireOrSkip(t, findProgram('mcopy') !== undefined, 'needs mtools')) return;
  const { at, put, open } = hostOf(t);
  const noise = Buffer.from(Array.from({ length: 100_003 }, (_, at) => (at * 7919) % 251));
  put('task/local/meta-data', 'instance-id: one\n');
  put('task/local/user-data', noise);
  put('task/local/UPPER.TXT', 'short name');
  put('task/local/EFI/BOOT/BOOTX64.EFI', noise.subarray(0, 8192));
  put('task/local/EFI/BOOT/empty', '');
  put('task/local/deep/er/ünïcode — name.tar.gz', 'x');
  put(`task/local/${'n'.repeat(200)}`, 'long');
  for (let number = 0; number < 700; number += 1)
    put(`task/local/many/same-name-${number}`, `${number}`);
  for (let number = 0; number < 300; number += 1)
    put(`task/local/root ${number}.config`, `${number}`);
  utimesSync(at('task/local/meta-data'), 1_700_000_000, 1_700_000_000);
  using directory = await open('/local');
  const disk = await written(directory, at('disk'));
  unpack(disk, at('unpacked'));
  assert.deepEqual(treeOf(at('unpacked')), treeOf(at('task/local')));
  assert.equal(statSync(at('unpacked/meta-data')).mtimeMs, 1_700_000_000_000);
  const { size, blocks } = statSync(disk);
  assert.equal(size, directory.virtualBytes);
  assert.ok(blocks * 512 < 16 * 1024 ** 2, `${blocks} blocks`);
});

test('V-136: the disk of a directory has its label, a partition and a sound file system', async (t) => {
  const programs = ['mlabel', 'blkid'].every((name) => findProgram(name) !== undefined);
  if (!requireOrSkip(t, programs, 'needs mtools and blkid')) return;
  const { at, put, open } = hostOf(t);
  put('images/seed/meta-data', 'x');
  using directory = await open('seed');
  const disk = await written(directory, at('disk'));
  const probe = (...options: readonly string[]): string =>
    execFileSync('blkid', ['-p', '-o', 'export', ...options, disk], { encoding: 'utf8' });
  assert.match(probe(), /^PTTYPE=dos$/m);
  const found = probe('-O', `${63 * 512}`);
  assert.match(found, /^LABEL=cidata$/m);
  assert.match(found, /^TYPE=vfat$/m);
  assert.match(found, /^VERSION=FAT16$/m);
});

test('V-136: an empty directory is an empty disk', async (t) => {
  if (!requireOrSkip(t, findProgram('mcopy') !== undefined, 'needs mtools')) return;
  const { at, open } = hostOf(t);
  using directory = await open('local');
  await written(directory, at('disk'));
  const partition = `${at('disk')}@@${63 * 512}`;
  const shown = execFileSync('mdir', ['-i', partition, '-b', '::'], { encoding: 'utf8' });
  assert.equal(shown.trim(), '');
});

test('V-136: a directory with many files is looked at in turns, between which all else goes on', async (t) => {
  const { put, open } = hostOf(t);
  for (let number = 0; number < 4000; number += 1) put(`images/many/${number}`, 'x');
  const work = (): number => {
    const { user, system } = process.threadCpuUsage();
    return user + system;
  };
  const begun = work();
  let [last, most, isOpen] = [begun, 0, false];
  const turn = (): void => {
    most = Math.max(most, work() - last);
    last = work();
    if (!isOpen) setTimeout(turn, 1);
  };
  turn();
  using _directory = await open('many');
  isOpen = true;
  turn();
  const share = most / (work() - begun);
  assert.ok(share < 0.5, `${Math.round(100 * share)} % of the work in one turn`);
});

/** What a task, or a careless job, may put into its directory. */
const attacks: Readonly<
  Record<string, readonly [(host: ReturnType<typeof hostOf>) => string, RegExp]>
> = {
  'a link to a file of the host': [
    ({ at }) => {
      symlinkSync(at('host/secret'), at('task/local/data'));
      return 'local';
    },
    /local\/data is a symbolic link/,
  ],
  'a link to a directory of the host': [
    ({ at }) => {
      symlinkSync(at('host'), at('task/local/data'));
      return 'local';
    },
    /local\/data is a symbolic link/,
  ],
  'a second name of a file of the host': [
    ({ at }) => {
      linkSync(at('host/secret'), at('task/local/data'));
      return 'local';
    },
    /local\/data has 2 names/,
  ],
  'a FIFO': [
    ({ at }) => {
      execFileSync('mkfifo', [at('task/local/data')]);
      return 'local';
    },
    /local\/data is a FIFO/,
  ],
  'a directory with a forbidden one in it': [
    ({ at }) => at('task'),
    /contains directories that are not/,
  ],
  'a file': [
    ({ put }) => {
      put('task/local/data', 'x');
      return 'local/data';
    },
    /local\/data is a file, not a directory/,
  ],
  'two names that differ in case': [
    ({ put }) => {
      put('task/local/data', 'x');
      put('task/local/DATA', 'x');
      return 'local';
    },
    /the name "data" differs from "DATA" in case only/,
  ],
  'a name that FAT does not have': [
    ({ put }) => {
      put('task/local/a:b', 'x');
      return 'local';
    },
    /local: the name "a:b" contains ":"/,
  ],
  'a name in another encoding': [
    ({ at }) => {
      mkdirSync(at('task/local'), { recursive: true });
      writeFileSync(Buffer.concat([Buffer.from(at('task/local/caf')), Buffer.of(0xe9)]), 'x');
      return 'local';
    },
    /local: the name "caf\ufffd" contains "\ufffd", which a FAT disk can't have/,
  ],
  'more than fits': [
    ({ at, put }) => {
      put('task/local/large', '');
      truncateSync(at('task/local/large'), 505 * 1024 ** 2);
      return 'local';
    },
    /local\/large does not fit: a FAT disk of a directory has room for 503 MiB/,
  ],
  'more directories than a program has': [
    ({ at }) => {
      mkdirSync(at(`task/local/${'d/'.repeat(20)}`), { recursive: true });
      return 'local';
    },
    /is more than 16 directories deep/,
  ],
  'more files than a program has': [
    ({ put }) => {
      for (let number = 0; number <= 4096; number += 1) put(`task/local/${number}`, '');
      return 'local';
    },
    /has more than 4096 files and directories/,
  ],
};
for (const [name, [prepare, message]] of Object.entries(attacks)) {
  test(`V-33 V-136: no disk is made of ${name}`, async (t) => {
    const host = hostOf(t);
    const fds = readdirSync('/proc/self/fd').length;
    await assert.rejects(host.open(prepare(host)), { code: 'refused', message });
    assert.equal(readdirSync('/proc/self/fd').length, fds, 'a file was left open');
  });
}

test('V-33 V-136: a directory outside of the allowed ones is refused, whatever its name', async (t) => {
  const { at, open } = hostOf(t);
  symlinkSync(at('host'), at('task/local/out'));
  for (const name of [at('host'), '/etc', 'local/out', '../host', '/local/../../host']) {
    await assert.rejects(open(name), notAllowed, name);
  }
});

test('V-136: in a directory of the operator a file may have two names', async (t) => {
  const { at, put, open } = hostOf(t);
  put('images/seed/meta-data', 'x');
  linkSync(at('images/seed/meta-data'), at('images/other'));
  using directory = await open('seed');
  assert.equal(directory.path, at('images/seed'));
});

/** What happens to a directory between the check of a job and its start. */
const changes: Readonly<Record<string, readonly [(path: string) => void, RegExp]>> = {
  'became longer': [(path) => writeFileSync(path, 'longer'), /changed while it was being read/],
  'became shorter': [(path) => writeFileSync(path, ''), /changed while it was being read/],
  'became a link': [
    (path) => {
      execFileSync('ln', ['-sf', '/etc/hostname', path]);
    },
    /is a symbolic link/,
  ],
  'got a second name': [(path) => linkSync(path, `${path}2`), /has 2 names/],
};
for (const [name, [change, message]] of Object.entries(changes)) {
  test(`V-33 V-136: a file that ${name} after the check ends the start`, async (t) => {
    const { at, put, open } = hostOf(t);
    put('task/local/data', 'four');
    using directory = await open('local');
    change(at('task/local/data'));
    await assert.rejects(written(directory, at('disk')), { name: 'ImageError', message });
  });
}
