import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { FatDirectory, PlainFile, readBytes } from '../../src/image/index.ts';
import { openImage } from '../../src/image/open-image.ts';
import { openLogSink, releaseLogPipes } from '../../src/vm/logs/log-sink.ts';
import { KeptFile } from '../../src/vm/store/kept-file.ts';
import { openedOf } from '../support/opens.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect } from '../support/vm.ts';

interface Allocation {
  readonly allocDir: string;
  readonly logs: string;
  readonly local: string;
  /** Nodes of devices, as a sibling task with CAP_MKNOD makes them. */
  plant(dir: string, name: string): readonly string[];
}

function allocationOf(t: TestContext): Allocation | undefined {
  if (!requireOrSkip(t, process.getuid?.() === 0, 'needs root: makes device nodes'))
    return undefined;
  const allocDir = join(tmpDir(t), 'alloc-0');
  const [logs, local] = [join(allocDir, 'alloc/logs'), join(allocDir, 'task/local')];
  for (const dir of [logs, local]) mkdirSync(dir, { recursive: true });
  const plant = (dir: string, name: string): readonly string[] =>
    Object.entries(devices).map(([kind, numbers]) => {
      const path = join(dir, `${name}.${kind}`);
      execFileSync('mknod', [path, ...numbers]);
      return path;
    });
  return { allocDir, logs, local, plant };
}

// /dev/null stands for a driver that takes every open, 10:200 is /dev/net/tun, and 10:130 would be the watchdog.
const devices = {
  null: ['c', '1', '3'],
  tun: ['c', '10', '200'],
  'no-driver': ['c', '10', '254'],
  disk: ['b', '7', '254'],
} as const;

const soon = () => ({ signal: AbortSignal.timeout(patient(5000)) });

test('an open of a device is seen here, and a look at it is not taken for one', async (t) => {
  const [, path = ''] = allocationOf(t)?.plant(tmpDir(t), 'node') ?? [];
  if (path === '') return;
  const pathOnly = 0o10000000;
  assert.deepEqual(await openedOf([path], () => closeSync(openSync(path, pathOnly))), []);
  assert.deepEqual(await openedOf([path], () => closeSync(openSync(path, 'r'))), [path]);
});

test('a device in the place of an image or of user data is never opened', async (t) => {
  const allocation = allocationOf(t);
  if (allocation === undefined) return;
  const { allocDir, local } = allocation;
  const planted = allocation.plant(local, 'disk.img');
  execFileSync('mkfifo', [join(local, 'disk.img.fifo')]);
  const roots = { trusted: [], task: [allocDir], relativeTo: [local] };
  const all = [...planted, join(local, 'disk.img.fifo')];
  const opened = await openedOf(all, async () => {
    for (const path of all) {
      await assert.rejects(openImage(path, roots, { maxVirtualBytes: 2 ** 40 }, soon()), {
        code: 'refused',
        message: /is a (device|FIFO), not a regular file/,
      });
      await assert.rejects(readBytes(path, roots, { maxBytes: 100 }, soon()), {
        code: 'refused',
        message: /not a regular file/,
      });
    }
  });
  assert.deepEqual(opened, []);
});

test('a device in the place of a kernel, or in a directory that becomes a disk, is never opened', async (t) => {
  const allocation = allocationOf(t);
  if (allocation === undefined) return;
  const { allocDir, local } = allocation;
  const roots = { trusted: [], task: [allocDir], relativeTo: [local] };
  const kernels = allocation.plant(local, 'vmlinuz');
  const directories = allocation.plant(tmpDir(t), 'entry').map((path) => {
    const dir = join(local, basename(path));
    mkdirSync(dir);
    renameSync(path, join(dir, 'meta-data'));
    return dir;
  });
  const all = [...kernels, ...directories.map((dir) => join(dir, 'meta-data'))];
  const opened = await openedOf(all, async () => {
    const refused = { code: 'refused', message: /is a device/ };
    for (const path of kernels) {
      await assert.rejects(PlainFile.open(path, { roots, maxBytes: 100 }, soon()), refused);
    }
    for (const path of directories) {
      await assert.rejects(FatDirectory.open(path, { roots, label: 'x' }, soon()), refused);
    }
  });
  assert.deepEqual(opened, []);
});

test('a device in the place of a disk or a backup that is about to be created is never opened', async (t) => {
  const allocation = allocationOf(t);
  if (allocation === undefined) return;
  const dir = tmpDir(t);
  const names = allocation.plant(tmpDir(t), 'disk').map((path) => {
    const name = basename(path);
    renameSync(path, join(dir, `.${name}.new`));
    return name;
  });
  const opened = await openedOf(
    names.map((name) => join(dir, `.${name}.new`)),
    async () => {
      for (const name of names) {
        using file = await KeptFile.in(dir, name);
        await assert.rejects(
          file.create(async () => {}, soon()),
          { message: /is not a regular file/ },
        );
      }
    },
  );
  assert.deepEqual(opened, []);
});

test('a device in the place of a log pipe is never opened, neither by a start nor by the end of a failed one', async (t) => {
  const allocation = allocationOf(t);
  if (allocation === undefined) return;
  const { allocDir, logs } = allocation;
  const planted = allocation.plant(logs, '.task.stdout.fifo');
  const lines: string[] = [];
  const opened = await openedOf(planted, () => {
    for (const path of planted) {
      assert.equal(openLogSink({ path, allocDir }, collect(lines)), undefined);
    }
    releaseLogPipes(planted, allocDir);
  });
  assert.deepEqual(opened, []);
  assert.equal(lines.filter((line) => line.includes('not a pipe')).length, planted.length);
});

test("a directory of logs that was replaced by a link does not lead to another allocation's log", async (t) => {
  const allocation = allocationOf(t);
  if (allocation === undefined) return;
  const { allocDir } = allocation;
  const other = join(tmpDir(t), 'alloc-1/alloc/logs');
  mkdirSync(other, { recursive: true });
  const foreign = join(other, '.task.stdout.fifo');
  execFileSync('mkfifo', [foreign]);
  mkdirSync(join(allocDir, 'alloc/data'));
  symlinkSync(other, join(allocDir, 'alloc/data/logs'));
  const path = join(allocDir, 'alloc/data/logs/.task.stdout.fifo');
  const opened = await openedOf([foreign], () => {
    assert.equal(openLogSink({ path, allocDir }, collect([])), undefined);
    assert.equal(openLogSink({ path: foreign, allocDir }, collect([])), undefined);
    releaseLogPipes([path, foreign], allocDir);
  });
  assert.deepEqual(opened, []);
});

test('a pipe of the allocation is opened for the log, beneath it', async (t) => {
  const allocation = allocationOf(t);
  if (allocation === undefined) return;
  const { allocDir, logs } = allocation;
  const path = join(logs, '.task.stdout.fifo');
  execFileSync('mkfifo', [path]);
  writeFileSync(join(logs, 'task.stdout.0'), '');
  const opened = await openedOf([path], () => {
    const sink = openLogSink({ path, allocDir }, collect([])) ?? assert.fail('no sink');
    closeSync(sink.fd);
    closeSync(sink.held);
  });
  assert.deepEqual(opened, [path]);
});
