import assert from 'node:assert/strict';
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { copyImage, growRaw, type OpenImage } from '../../src/image/index.ts';
import { openImage } from '../../src/image/open-image.ts';
import { sectorImage } from '../support/images.ts';
import { tmpDir } from '../support/tmp.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(20_000) });

type Piece = readonly [offset: number, bytes: number];

function sourceWith(dir: string, size: number, pieces: readonly Piece[]): string {
  const path = join(dir, 'source.img');
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  for (const [offset, bytes] of pieces) writeSync(fd, Buffer.alloc(bytes, 0x5a), 0, bytes, offset);
  closeSync(fd);
  // Long ago, so that a change is seen however coarse the clock of the file system is.
  utimesSync(path, 1, 1);
  return path;
}

const open = (dir: string): Promise<OpenImage> =>
  openImage(
    'source.img',
    { trusted: [dir], task: [], relativeTo: [dir] },
    { maxVirtualBytes: 2 ** 44 },
    soon(),
  );

function destination(t: TestContext, dir: string): { readonly fd: number; readonly path: string } {
  const path = join(dir, 'copy.img');
  const fd = openSync(path, 'w+');
  t.after(() => closeSync(fd));
  return { fd, path };
}

test('V-38 D33: a private copy keeps its holes', async (t) => {
  const dir = tmpDir(t);
  const pieces: Piece[] = [
    [0, 512],
    [64 * MiB + 4096, 128 * KiB],
    [900 * MiB, 1],
  ];
  const path = sourceWith(dir, 1024 * MiB, pieces);
  using image = await open(dir);
  const copy = destination(t, dir);
  const { how } = await copyImage(image, copy.fd, soon());
  assert.ok(how === 'sparse' || how === 'reflink');
  assert.equal(fstatSync(copy.fd).size, 1024 * MiB);
  assert.ok(fstatSync(copy.fd).blocks * 512 <= 2 * MiB, 'the copy takes as little as the source');
  const [from, to] = [openSync(path, 'r'), copy.fd];
  for (const [offset, bytes] of pieces) {
    const [a, b] = [Buffer.alloc(bytes + 8192), Buffer.alloc(bytes + 8192)];
    const start = Math.max(0, offset - 4096);
    assert.equal(readSync(from, a, 0, a.length, start), readSync(to, b, 0, b.length, start));
    assert.deepEqual(a, b);
  }
  closeSync(from);
});

test('V-104: a copy reports how far it is, in the kernel and by reading', async (t) => {
  const dir = tmpDir(t);
  for (const hole of [0, 64 * MiB]) {
    sourceWith(dir, 128 * MiB, [[hole, 128 * MiB - hole]]);
    using image = await open(dir);
    const copy = destination(t, dir);
    const percents: number[] = [];
    const onProgress = (percent: number) => percents.push(percent);
    const { how } = await copyImage(image, copy.fd, { ...soon(), onProgress });
    if (how === 'reflink') continue;
    assert.ok(percents.length > 1, `${percents}`);
    assert.deepEqual(
      percents,
      percents.toSorted((a, b) => a - b),
    );
    assert.ok(percents.every((percent) => percent >= 0 && percent <= 100));
  }
});

test('V-38: zeros that take space in the source become holes in the copy', async (t) => {
  const dir = tmpDir(t);
  writeFileSync(join(dir, 'source.img'), Buffer.alloc(8 * MiB));
  using image = await open(dir);
  const copy = destination(t, dir);
  const { how } = await copyImage(image, copy.fd, soon());
  if (how === 'sparse') assert.equal(fstatSync(copy.fd).blocks, 0);
  assert.deepEqual(readFileSync(copy.path), Buffer.alloc(8 * MiB));
});

test('V-38: property: whatever is where, the copy is the same bytes', async (t) => {
  const piece = fc.tuple(fc.nat(6 * MiB), fc.integer({ min: 1, max: 300 * KiB }));
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 7 * MiB }),
      fc.array(piece, { maxLength: 5 }),
      async (size, pieces) => {
        const dir = tmpDir(t);
        const path = sourceWith(dir, size, pieces);
        using image = await open(dir);
        const copy = destination(t, dir);
        writeSync(copy.fd, Buffer.alloc(100, 0xff)); // what was there before must not show
        await copyImage(image, copy.fd, soon());
        assert.ok(readFileSync(copy.path).equals(readFileSync(path)));
      },
    ),
    { numRuns: 25 },
  );
});

test('V-38: a copy ends when its signal aborts', async (t) => {
  const dir = tmpDir(t);
  sourceWith(dir, 128 * MiB, [[0, 64 * MiB]]);
  using image = await open(dir);
  const copy = destination(t, dir);
  const reason = new Error('task destroyed');
  const early = { signal: AbortSignal.abort(reason) };
  await assert.rejects(copyImage(image, copy.fd, early), { code: 'io', cause: reason });
  const late = new AbortController();
  const copying = copyImage(image, copy.fd, late);
  setTimeout(() => late.abort(reason), 2);
  await copying.then(
    ({ how }) => assert.equal(how, 'reflink'),
    (error) => assert.equal(error.cause, reason),
  );
});

test('V-38: copying leaves the event loop free', async (t) => {
  const dir = tmpDir(t);
  sourceWith(dir, 256 * MiB, [[0, 200 * MiB]]);
  using image = await open(dir);
  const copy = destination(t, dir);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const started = performance.now();
  await copyImage(image, copy.fd, soon());
  const tookMs = performance.now() - started;
  delay.disable();
  const longestMs = delay.max / 1e6;
  t.diagnostic(`longest pause ${longestMs.toFixed(1)} ms of ${tookMs.toFixed(0)} ms`);
  assert.ok(longestMs < Math.max(50, tookMs / 2));
});

for (const [name, change] of Object.entries({
  'becomes shorter': (path: string) => truncateSync(path, 3 * MiB),
  'becomes longer': (path: string) => truncateSync(path, 9 * MiB),
  'is written to': (path: string) => writeFileSync(path, 'new', { flag: 'r+' }),
})) {
  for (const dataBytes of [8 * MiB, 6 * MiB]) {
    const file = dataBytes < 8 * MiB ? 'source with a hole' : 'source';
    test(`V-38: a ${file} that ${name} while it is copied is an error that names it`, async (t) => {
      const dir = tmpDir(t);
      const path = sourceWith(dir, 8 * MiB, [[0, dataBytes]]);
      using image = await open(dir);
      const copy = destination(t, dir);
      // A clone is taken in one moment and reports no progress; nothing can be wrong with it.
      const copying = copyImage(image, copy.fd, { ...soon(), onProgress: () => change(path) });
      await copying.then(
        ({ how }) => assert.equal(how, 'reflink'),
        (error) => assert.match(error.message, /source\.img changed while it was being copied/),
      );
    });
  }
}

test('V-34 V-38: a header that turns evil between the check and the copy is refused', async (t) => {
  const dir = tmpDir(t);
  const path = join(dir, 'source.img');
  const evils: Readonly<Record<string, (header: Buffer) => unknown>> = {
    'backing file': (header) => header.writeBigUInt64BE(512n, 8),
    'another file': (header) => header.writeBigUInt64BE(4n, 72),
    'size is different': (header) => header.writeBigUInt64BE(512n, 24),
  };
  for (const [reason, turn] of Object.entries(evils)) {
    writeFileSync(path, readFileSync(sectorImage(0, 'qcow2')));
    using image = await open(dir);
    const evil = readFileSync(path);
    turn(evil);
    writeFileSync(path, evil, { flag: 'r+' });
    const copy = destination(t, dir);
    const refusal = { code: 'refused', message: new RegExp(`changed: .*${reason}`) };
    await assert.rejects(copyImage(image, copy.fd, soon()), refusal);
  }
});

test('V-38: a destination that can not be written is an error that names the source', async (t) => {
  const dir = tmpDir(t);
  const path = sourceWith(dir, MiB, [[0, MiB]]);
  using image = await open(dir);
  const fd = openSync(path, 'r');
  t.after(() => closeSync(fd));
  await assert.rejects(copyImage(image, fd, soon()), { name: 'ImageError', code: 'io' });
});

test('V-37: a raw disk grows with zeros and never shrinks', async (t) => {
  const { fd, path } = destination(t, tmpDir(t));
  writeSync(fd, 'data');
  await growRaw(fd, 3 * MiB);
  assert.equal(fstatSync(fd).size, 3 * MiB);
  assert.equal(readFileSync(path).toString('latin1', 0, 6), 'data\0\0');
  await growRaw(fd, 3 * MiB);
  await assert.rejects(growRaw(fd, MiB), { name: 'ImageError', code: 'refused' });
  assert.equal(fstatSync(fd).size, 3 * MiB);
});
