import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { findByUser, pause } from '#host';
import { ContainedProgram } from '../../src/image/import/contained-program.ts';
import { FedProgram } from '../../src/image/import/fed-program.ts';
import { unpack } from '../../src/image/import/unpack.ts';
import { fuzzImports } from '../support/fuzz-imports.ts';
import { hostileArchives } from '../support/hostile-archives.ts';
import { openFiles } from '../support/open-files.ts';
import { patient } from '../support/patience.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const uid = 70_323;
const MiB = 2 ** 20;
const GiB = 2 ** 30;
const soon = (): { readonly signal: AbortSignal } => ({
  signal: AbortSignal.timeout(patient(60_000)),
});

function canContain(t: TestContext, ...programs: readonly string[]): boolean {
  const there = [...programs, 'prlimit'].every((it) => findProgram(it) !== undefined);
  const can = process.getuid?.() === 0 && there;
  return requireOrSkip(t, can, `needs root, prlimit and ${programs.join(' and ')}`);
}

/** A sparse disk with some data that no compressor makes small. */
function makeDisk(dir: string, bytes: number): string {
  const path = join(dir, 'disk.raw');
  const fd = openSync(path, 'w');
  ftruncateSync(fd, bytes);
  for (const at of [0, bytes / 2, bytes - MiB]) {
    const data = createHash('shake256', { outputLength: MiB }).update(`${at}`).digest();
    writeSync(fd, data, 0, MiB, at);
  }
  closeSync(fd);
  return path;
}

async function unpackFile(path: string, { maxBytes = 64 * MiB } = {}): Promise<Buffer> {
  const target = `${path}.target`;
  const [source, dest] = [openSync(path, 'r'), openSync(target, 'w+')];
  try {
    const request = { source, dest, name: path, uid, limits: { maxBytes }, onProgress: () => {} };
    await unpack(request, { signal: AbortSignal.timeout(patient(60_000)) });
    return readFileSync(target);
  } finally {
    for (const fd of [source, dest]) closeSync(fd);
  }
}

const openPipes = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('pipe:');
    } catch {
      return false; // the one that lists them
    }
  }).length;

for (const how of ['xz', 'bzip2'] as const) {
  test(`${how} decompresses contained, with no file, no network, and as its own user`, async (t) => {
    if (!canContain(t, how)) return;
    await using program = await ContainedProgram.start(how, {
      uid,
      maxBytes: MiB,
      begin: Buffer.alloc(0),
    });
    assert.ok(program, 'it was started');
    const [found, ...others] = await findByUser(uid, soon());
    assert.ok(found && others.length === 0);
    const proc = `/proc/${found.pid}`;
    // It is prlimit until it has its limits, and opens its libraries first.
    const waiting = soon();
    while (readFileSync(`${proc}/comm`, 'utf8').trim() !== how) await pause(5, waiting);
    let fds = openFiles(found.pid);
    while (fds.some((path) => /\.so\b/.test(path))) {
      await pause(5, waiting);
      fds = openFiles(found.pid);
    }
    // xz makes a pipe for itself.
    assert.match(fds.join(' '), /^pipe:\S+ pipe:\S+ \/memfd:\S+ \(deleted\)( pipe:\S+)*$/);
    assert.equal(new Set(fds.slice(0, 2)).size, 2, 'one pipe for each direction');
    for (const kind of ['net', 'ipc', 'mnt']) {
      assert.notEqual(readlinkSync(`${proc}/ns/${kind}`), readlinkSync(`/proc/self/ns/${kind}`));
    }
    assert.deepEqual(
      readdirSync(`${proc}/root`).sort().includes('etc'),
      true,
      'the cache of libraries',
    );
    assert.deepEqual(readdirSync(`${proc}/root/etc`), ['ld.so.cache']);
    assert.equal(getPriority(found.pid), 10);
    const limits = readFileSync(`${proc}/limits`, 'utf8');
    assert.match(limits, /Max address space +268435456 +268435456/);
    assert.match(limits, /Max processes +1 +1 /);
    assert.match(limits, /Max cpu time +61 +61 /);
    const status = readFileSync(`${proc}/status`, 'utf8');
    assert.match(status, /CapEff:\t0+\n/);
  });

  test(`${how} of the host: the same bytes, its reason where it is damaged, and nothing stays`, async (t) => {
    if (!canContain(t, how)) return;
    const before = openPipes();
    const dir = tmpDir(t);
    const disk = makeDisk(dir, 16 * MiB);
    const packed = join(dir, 'packed');
    const bytes = execFileSync(how, ['-c', disk], { maxBuffer: 64 * MiB });
    for (const times of [1, 2]) {
      writeFileSync(packed, Buffer.concat(Array.from({ length: times }, () => bytes)));
      const wanted = Array.from({ length: times }, () => readFileSync(disk));
      assert.ok((await unpackFile(packed)).equals(Buffer.concat(wanted)));
    }
    await assert.rejects(unpackFile(packed, { maxBytes: 2 * MiB }), {
      message: /larger than the 2097152 bytes/,
    });
    for (const length of [bytes.length >> 1, bytes.length - 1]) {
      writeFileSync(packed, bytes.subarray(0, length));
      await assert.rejects(unpackFile(packed), {
        code: 'refused',
        message: new RegExp(`cannot be decompressed: \\S*${how}: .*\\(${how}\\)$`),
      });
    }
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 0x55;
    writeFileSync(packed, bytes);
    await assert.rejects(unpackFile(packed), { code: 'refused' });
    assert.deepEqual(await findByUser(uid, soon()), []);
    assert.equal(openPipes(), before);
  });
}

async function* inPieces(bytes: Buffer): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.length; at += MiB / 4) yield bytes.subarray(at, at + MiB / 4);
}

test('what a program of the host writes is moved in large pieces, not as it writes them', async (t) => {
  if (!canContain(t, 'xz')) return;
  const disk = makeDisk(tmpDir(t), 4 * MiB);
  const bytes = execFileSync('xz', ['-c', disk], { maxBuffer: 64 * MiB });
  await using program = await ContainedProgram.start('xz', {
    uid,
    maxBytes: 4 * MiB,
    begin: bytes.subarray(0, 4096),
  });
  assert.ok(program, 'it was started');
  const pieces: number[] = [];
  for await (const piece of new FedProgram(program.pipes).through(inPieces(bytes))) {
    pieces.push(piece.length);
  }
  assert.equal(
    pieces.reduce((sum, length) => sum + length, 0),
    4 * MiB,
  );
  assert.ok(pieces.slice(0, -1).every((length) => length >= MiB / 4));
});

test('hostile archives are refused for the same reasons when xz of the host decompresses them', async (t) => {
  if (!canContain(t, 'xz')) return;
  const path = join(tmpDir(t), 'packed');
  for (const { name, bytes, message } of hostileArchives) {
    writeFileSync(path, execFileSync('xz', ['-0', '-c'], { input: bytes }));
    await assert.rejects(unpackFile(path), { code: 'refused', message }, name);
  }
});

test('damaged files for programs of the host: no crash, no hang, nothing that stays', async (t) => {
  if (!canContain(t, 'xz', 'bzip2')) return;
  const before = openPipes();
  const { imported, refused } = await fuzzImports({ seed: 1, inputs: 100, uid });
  assert.equal(imported + refused, 100);
  assert.ok(imported > 0 && refused > 0, `${imported} imported, ${refused} refused`);
  assert.deepEqual(await findByUser(uid, soon()), []);
  assert.equal(openPipes(), before);
});

/** A thread that does nothing but measure how late it is, as this one does. */
const bystander = `
  const { parentPort } = require('node:worker_threads');
  let [last, max] = [performance.now(), 0];
  setInterval(() => { const now = performance.now(); max = Math.max(max, now - last - 10); last = now; }, 10);
  parentPort.on('message', () => parentPort.postMessage(max));`;

/** The priorities of the threads of this process. */
function niceness(): readonly number[] {
  return readdirSync('/proc/self/task').map((thread) => {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8');
    // Behind the name, which may have spaces.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
  });
}

test('the import of an image of 1 GiB never holds the event loop for 100 ms, and gets processor time after others', async (t) => {
  if (!canContain(t, 'xz')) return;
  const dir = tmpDir(t);
  makeDisk(dir, GiB);
  const path = join(dir, 'archive');
  execFileSync('tar', ['-C', dir, '-cJSf', path, 'disk.raw']);
  const control = new Worker(bystander, { eval: true });
  t.after(() => control.terminate());
  let [last, max] = [performance.now(), 0];
  const seen = new Set<number>();
  const timer = setInterval(() => {
    for (const nice of niceness()) seen.add(nice);
    const now = performance.now();
    max = Math.max(max, now - last - 10);
    last = now;
  }, 10);
  const target = openSync(join(dir, 'target'), 'w+');
  const source = openSync(path, 'r');
  try {
    const limits = { maxBytes: 2 * GiB };
    const request = { source, dest: target, name: path, uid, limits, onProgress: () => {} };
    const { fileBytes } = await unpack(request, { signal: AbortSignal.timeout(patient(120_000)) });
    assert.equal(fileBytes, GiB);
  } finally {
    clearInterval(timer);
    for (const fd of [source, target]) closeSync(fd);
  }
  assert.deepEqual([...seen], [0, 10], 'one of our threads goes after the others');
  const answer = new Promise<number>((resolve) => control.once('message', resolve));
  control.postMessage('how late');
  const others = await answer;
  t.diagnostic(`held for ${max.toFixed(0)} ms; a thread without work ${others.toFixed(0)} ms`);
  assert.ok(max - others < patient(100), `${max} ms, a thread without work ${others} ms`);
});
