import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findByMark, findByUser } from '#host';
import { type Conversion, convert } from '../../src/image/convert/convert.ts';
import { inspectForeign } from '../../src/image/convert/foreign.ts';
import { patient } from '../support/patience.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const uid = 70_321;
const MiB = 2 ** 20;
const soon = (): { readonly signal: AbortSignal } => ({
  signal: AbortSignal.timeout(patient(60_000)),
});
const programs = { qemuImg: findProgram('qemu-img'), prlimit: findProgram('prlimit') };

function canConvert(t: TestContext): boolean {
  const can = process.getuid?.() === 0 && programs.qemuImg !== undefined;
  return requireOrSkip(t, can && programs.prlimit !== undefined, 'needs root, and qemu-img');
}

const qemuImg = (...args: readonly string[]): string =>
  execFileSync('qemu-img', [...args], { encoding: 'utf8' });

/** A disk with data in three places, and its content. */
function rawDisk(dir: string): { readonly path: string; readonly bytes: Buffer } {
  const bytes = Buffer.alloc(32 * MiB);
  for (const at of [0, 5 * MiB + 4096, 31 * MiB]) bytes.fill(`data at ${at} `, at, at + 300_000);
  const path = join(dir, 'disk.raw');
  writeFileSync(path, bytes);
  return { path, bytes };
}

/** Files that are the converter's own, in a directory that is not. */
function place(t: TestContext): { readonly source: string; readonly target: string } {
  const dir = tmpDir(t);
  const [source, target] = [join(dir, 'source'), join(dir, 'target')];
  for (const path of [source, target]) {
    writeFileSync(path, '', { mode: 0o600 });
    chownSync(path, uid, uid);
  }
  return { source, target };
}

const mark = (): string => `convert-${process.pid}`;

async function run(
  conversion: Omit<Conversion, 'name'>,
  qemuImg = programs.qemuImg,
  waiting = soon(),
) {
  await convert(
    { ...conversion, name: 'the-image' },
    { qemuImg, prlimit: programs.prlimit, uid, mark: mark() },
    waiting,
  );
}

/** A program in the place of qemu-img, where a bare root shows it. */
function programAt(t: TestContext, script: string): string {
  const dir = `/usr/local/lib/nq-test-${process.pid}-${Math.random().toString(36).slice(2)}`;
  mkdirSync(dir);
  t.after(() => execFileSync('rm', ['-r', dir]));
  const path = join(dir, 'qemu-img');
  writeFileSync(path, `#!/bin/bash\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

const kinds = [
  ['vmdk', 'vmdk', []],
  ['vmdk', 'a streamOptimized vmdk', ['-o', 'subformat=streamOptimized']],
  ['vdi', 'vdi', []],
  ['vdi', 'a fixed vdi', ['-o', 'static=on']],
  ['vhdx', 'vhdx', []],
  ['vpc', 'a dynamic vhd', ['-o', 'force_size=on']],
  ['vpc', 'a fixed vhd', ['-o', 'subformat=fixed,force_size=on']],
] as const;

for (const [format, name, options] of kinds) {
  test(`design-4: ${name} as qemu-img makes it passes the gate and is converted, byte for byte and sparse`, async (t) => {
    if (!canConvert(t)) return;
    const disk = rawDisk(tmpDir(t));
    const { source, target } = place(t);
    const made = `${source}.${format}`;
    qemuImg('convert', '-f', 'raw', '-O', format, ...options, disk.path, made);
    copyFileSync(made, source);
    const bytes = readFileSync(source);
    const { problems, virtualBytes } = await inspectForeign(format, {
      fileBytes: bytes.length,
      read: async (at, length) => bytes.subarray(at, at + length),
    });
    assert.deepEqual(problems, []);
    const percents: number[] = [];
    const onProgress = (percent: number): void => void percents.push(percent);
    await run({ source, target, from: format, to: 'raw', virtualBytes, onProgress });
    assert.ok(readFileSync(target).equals(disk.bytes));
    assert.ok(statSync(target).blocks * 512 < 4 * MiB);
    assert.ok(percents.every((percent) => percent >= 0 && percent <= 100));
  });
}

const ignore = (): void => {};

test('a raw disk becomes a qcow2 and back', async (t) => {
  if (!canConvert(t)) return;
  const disk = rawDisk(tmpDir(t));
  const { source, target } = place(t);
  copyFileSync(disk.path, source);
  const virtualBytes = disk.bytes.length;
  await run({ source, target, from: 'raw', to: 'qcow2', virtualBytes, onProgress: ignore });
  assert.match(qemuImg('check', '-f', 'qcow2', target), /No errors/);
  const back = place(t);
  copyFileSync(target, back.source);
  await run({ ...back, from: 'qcow2', to: 'raw', virtualBytes, onProgress: ignore });
  assert.ok(readFileSync(back.target).equals(disk.bytes));
});

test('attacks 1, 2, 4: a converter that obeys an image sees nothing of the host but its two files', async (t) => {
  if (!canConvert(t)) return;
  const { source, target } = place(t);
  const secret = join(tmpDir(t), 'secret');
  writeFileSync(secret, 'everybody may read this', { mode: 0o644 });
  const program = programAt(
    t,
    `exec > "\${@: -1}"
     for it in /*; do [ -d "$it" ] || echo "$it"; done
     for it in ${secret} /etc/passwd /proc/self/status /home /root /run /tmp /var /sys /dev/mem; do [ -e $it ] && echo "sees $it"; done
     id -u; id -g; id -G
     cat /usr/bin/../../proc/net/dev 2>/dev/null
     (exec 3<>/dev/tcp/127.0.0.1/4646) 2>/dev/null && echo network
     (echo x > "\${@: -2:1}") 2>/dev/null && echo "writes to its source"
     (echo x > /planted) 2>/dev/null && echo "writes to the root"
     ulimit -Hc; ulimit -Ht; ulimit -Hv; ulimit -Hn; ulimit -Hu
     ulimit -v unlimited 2>/dev/null && echo "raises its limits"
     exit 0`,
  );
  const conversion = { source, target, from: 'vmdk', to: 'raw', virtualBytes: 64 * MiB } as const;
  await run({ ...conversion, onProgress: ignore }, program);
  assert.deepEqual(readFileSync(target, 'utf8').trim().split('\n'), [
    `/source-${mark()}`,
    `/target-${mark()}`,
    ...[uid, uid, uid].map(String),
    '0',
    '128',
    String(2 * 1024 * 1024),
    '64',
    '128',
  ]);
});

test('attack 6: a converter can not write more than the disk has', async (t) => {
  if (!canConvert(t)) return;
  const { source, target } = place(t);
  const program = programAt(t, `exec head -c 9000000 /dev/zero > "\${@: -1}"`);
  const conversion = { source, target, from: 'vdi', to: 'raw', virtualBytes: 4 * MiB } as const;
  await assert.rejects(
    run({ ...conversion, onProgress: ignore }, program),
    /ended with (SIGXFSZ|1)/,
  );
  assert.equal(statSync(target).size, 4 * MiB);
});

test('attack 3: what a converter starts is gone when its conversion is', async (t) => {
  if (!canConvert(t)) return;
  const { source, target } = place(t);
  const program = programAt(
    t,
    `setsid bash -c "echo started; sleep 600; echo late" > "\${@: -1}" &
     until [ -s "\${@: -1}" ]; do sleep 0.01; done`,
  );
  const conversion = { source, target, from: 'vdi', to: 'raw', virtualBytes: MiB } as const;
  await run({ ...conversion, onProgress: ignore }, program);
  assert.equal(readFileSync(target, 'utf8'), 'started\n');
  assert.deepEqual(await findByUser(uid, soon()), []);
});

test('attack 3: a reference in an image that is called raw is data', async (t) => {
  if (!canConvert(t)) return;
  const { source, target } = place(t);
  const content = Buffer.alloc(MiB);
  content.write('json:{"driver":"file","filename":"/etc/passwd"}');
  writeFileSync(source, content);
  await run({ source, target, from: 'raw', to: 'raw', virtualBytes: MiB, onProgress: ignore });
  assert.ok(readFileSync(target).equals(content));
});

test('a failed conversion reports what the program reported, one line of it', async (t) => {
  if (!canConvert(t)) return;
  const { source, target } = place(t);
  writeFileSync(source, Buffer.alloc(MiB, 1));
  const conversion = { source, target, from: 'vmdk', to: 'raw', virtualBytes: MiB } as const;
  await assert.rejects(run({ ...conversion, onProgress: ignore }), (error: Error) => {
    assert.match(error.message, /converting the-image from vmdk to raw: qemu-img ended with 1: /);
    return !error.message.includes('\n') && 'code' in error && error.code === 'refused';
  });
});

test('a cancelled conversion ends within a second, with its process', async (t) => {
  if (!canConvert(t)) return;
  const { source, target } = place(t);
  const stop = new AbortController();
  const program = programAt(t, 'printf "    (12.50/100%%)\\r"; sleep 600 & wait');
  const { promise: reported, resolve } = Promise.withResolvers<number>();
  const conversion = { source, target, from: 'vdi', to: 'raw', virtualBytes: MiB } as const;
  const running = run({ ...conversion, onProgress: resolve }, program, stop);
  running.catch(ignore);
  assert.equal(await reported, 12);
  const began = performance.now();
  stop.abort();
  await assert.rejects(running, /cancelled/);
  assert.ok(performance.now() - began < patient(1000));
  assert.deepEqual(await findByMark(mark(), [uid], soon()), []);
});

test('without qemu-img the error names the package', async () => {
  const { source, target } = { source: '/none', target: '/none' };
  const conversion = { source, target, from: 'vdi', to: 'raw', virtualBytes: MiB } as const;
  const converter = { qemuImg: undefined, prlimit: '/usr/bin/prlimit', uid, mark: mark() };
  const running = convert({ ...conversion, name: 'x', onProgress: ignore }, converter, soon());
  await assert.rejects(running, /install the package qemu-utils/);
});
