import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  cpSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findProgram } from '#host';
import { isPacked } from '../../src/image/import/packing.ts';
import { type Unpacked, unpack } from '../../src/image/import/unpack.ts';
import { digest } from '../../src/image/store/digest.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const compressors = { gz: 'gzip', xz: 'xz', zst: 'zstd', bz2: 'bzip2' } as const;

function isThere(t: TestContext, program: string): boolean {
  return requireOrSkip(t, findProgram(program) !== undefined, `${program} is not installed`);
}

/** A disk of 3 MiB with holes of several sizes; its data does not repeat within a block of any compressor. */
function makeDisk(dir: string): string {
  const path = join(dir, 'disk.raw');
  const fd = openSync(path, 'w');
  ftruncateSync(fd, 3 * MiB);
  for (const [at, length] of [
    [0, 70 * KiB],
    [512 * KiB + 4 * KiB, 300 * KiB],
    [2 * MiB, 1],
    [2 * MiB + 600 * KiB, 64 * KiB],
  ] as const) {
    const bytes = createHash('shake256', { outputLength: length }).update(`${at}`).digest();
    writeSync(fd, bytes, 0, length, at);
  }
  // Runs of equal bytes, as bzip2 folds them.
  for (let run = 1; run < 600; run += 1) {
    writeSync(fd, Buffer.alloc(run, run), 0, run, MiB + run * 1024);
  }
  closeSync(fd);
  return path;
}

interface Outcome extends Unpacked {
  readonly bytes: Buffer;
  readonly blocks: number;
}

async function unpackFile(
  t: TestContext,
  path: string,
  options: {
    readonly member?: string;
    readonly maxBytes?: number;
    readonly signal?: AbortSignal;
    readonly onProgress?: () => void;
  } = {},
): Promise<Outcome> {
  const { member, maxBytes = 64 * MiB, onProgress = () => {} } = options;
  const target = join(tmpDir(t), 'target');
  const [source, dest] = [openSync(path, 'r'), openSync(target, 'w+')];
  try {
    const request = {
      source,
      dest,
      name: path,
      member,
      allChecksums: true,
      limits: { maxBytes },
      onProgress,
    };
    const signal = options.signal ?? AbortSignal.timeout(patient(30_000));
    const unpacked = await unpack(request, { signal });
    return { ...unpacked, bytes: readFileSync(target), blocks: fstatSync(dest).blocks };
  } finally {
    closeSync(source);
    closeSync(dest);
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function checkOutcome(outcome: Outcome, disk: string, path: string): void {
  const wanted = readFileSync(disk);
  assert.ok(outcome.bytes.equals(wanted), 'the bytes are those of the disk');
  assert.equal(outcome.fileBytes, wanted.length);
  assert.equal(outcome.sha256, sha256(wanted));
  const packed = readFileSync(path);
  assert.equal(outcome.source.sha256, sha256(packed));
  assert.equal(outcome.source.sha512, createHash('sha512').update(packed).digest('hex'));
  assert.ok(outcome.blocks * 512 < 2 * MiB, `${outcome.blocks} blocks: holes are kept`);
}

/** Compressed by a program of this system, under a name that states nothing. */
function compress(path: string, program: string, ...args: readonly string[]): string {
  const target = `${path}.${program}.packed`;
  writeFileSync(target, execFileSync(program, [...args, '-c', path], { maxBuffer: 64 * MiB }));
  return target;
}

function tar(dir: string, name: string, ...args: readonly string[]): string {
  const path = join(dir, name);
  execFileSync('tar', ['-C', dir, '-cf', path, ...args]);
  return path;
}

for (const program of Object.values(compressors)) {
  test(`a disk compressed by ${program} is unpacked, also from several streams in one file`, async (t) => {
    if (!isThere(t, program)) return;
    const dir = tmpDir(t);
    const disk = makeDisk(dir);
    const packed = compress(disk, program);
    assert.ok(isPacked(readFileSync(packed).subarray(0, 4096)));
    checkOutcome(await unpackFile(t, packed), disk, packed);
    const twice = join(dir, 'twice');
    writeFileSync(twice, Buffer.concat([readFileSync(packed), readFileSync(packed)]));
    const { bytes } = await unpackFile(t, twice);
    assert.ok(bytes.equals(Buffer.concat([readFileSync(disk), readFileSync(disk)])));
  });

  test(`what ${program} compressed is refused when it is cut or changed`, async (t) => {
    if (!isThere(t, program)) return;
    const dir = tmpDir(t);
    const packed = compress(makeDisk(dir), program);
    const whole = readFileSync(packed);
    for (const length of [8, 20, 1000, whole.length >> 1, whole.length - 1]) {
      writeFileSync(packed, whole.subarray(0, length));
      await assert.rejects(unpackFile(t, packed), { code: 'refused' }, `cut at ${length}`);
    }
    whole[whole.length >> 1] = (whole[whole.length >> 1] ?? 0) ^ 0x55;
    writeFileSync(packed, whole);
    await assert.rejects(unpackFile(t, packed), { code: 'refused' });
  });
}

const sparseKinds = {
  'plain tar': ['--format=gnu'],
  'tar of the first kind': ['--format=v7'],
  ustar: ['--format=ustar'],
  'old GNU sparse': ['--format=gnu', '-S'],
  PAX: ['--format=pax'],
  'PAX sparse 0.0': ['--format=pax', '-S', '--sparse-version=0.0'],
  'PAX sparse 0.1': ['--format=pax', '-S', '--sparse-version=0.1'],
  'PAX sparse 1.0': ['--format=pax', '-S', '--sparse-version=1.0'],
} as const;

for (const [kind, args] of Object.entries(sparseKinds)) {
  test(`${kind}: the disk is what the system's tar makes`, async (t) => {
    const dir = tmpDir(t);
    const disk = makeDisk(dir);
    writeFileSync(join(dir, 'README'), 'a text\n');
    // Far more parts than a header holds, and an end that is a hole.
    const many = openSync(join(dir, 'many.raw'), 'w');
    for (let at = 0; at < 200; at += 1) writeSync(many, 'x', at * 8 * KiB);
    ftruncateSync(many, 4 * MiB);
    closeSync(many);
    const path = tar(dir, 'a', ...args, 'README', 'many.raw', 'disk.raw');
    for (const name of ['disk.raw', 'many.raw']) {
      const out = join(dir, 'out');
      mkdirSync(out, { recursive: true });
      execFileSync('tar', ['-C', out, '-xf', path, name]);
      const outcome = await unpackFile(t, path, { member: name });
      assert.equal(outcome.member, name);
      checkOutcome(outcome, join(out, name), path);
    }
    checkOutcome(
      await unpackFile(t, tar(dir, 'b', ...args, 'README', 'disk.raw')),
      disk,
      join(dir, 'b'),
    );
  });
}

for (const program of Object.values(compressors)) {
  test(`a sparse disk in a tar compressed by ${program}`, async (t) => {
    if (!isThere(t, program)) return;
    const dir = tmpDir(t);
    const disk = makeDisk(dir);
    const packed = compress(tar(dir, 'a.tar', '-S', 'disk.raw'), program);
    checkOutcome(await unpackFile(t, packed), disk, packed);
  });
}

test('a compressed disk inside an archive is unpacked when it is named', async (t) => {
  const dir = tmpDir(t);
  const disk = makeDisk(dir);
  renameSync(compress(disk, 'xz'), join(dir, 'disk.xz'));
  const path = tar(dir, 'a', './disk.xz');
  checkOutcome(await unpackFile(t, path, { member: 'disk.xz' }), disk, path);
});

test('OVA: the disk is the one that its description names', async (t) => {
  const dir = tmpDir(t);
  const disk = makeDisk(dir);
  cpSync(disk, join(dir, 'nvram.raw'));
  truncateSync(join(dir, 'nvram.raw'), 64 * KiB);
  const ovf = `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="f2" ovf:href="nvram.raw"/><File ovf:href="disk.raw" ovf:id="f1"/></References>
  <DiskSection><Disk ovf:capacity="3" ovf:diskId="d" ovf:fileRef="f1"/></DiskSection>
</Envelope>`;
  writeFileSync(join(dir, 'vm.ovf'), ovf);
  const path = tar(dir, 'a', '--format=ustar', 'vm.ovf', 'nvram.raw', 'disk.raw');
  const outcome = await unpackFile(t, path);
  assert.equal(outcome.member, 'disk.raw');
  checkOutcome(outcome, disk, path);
});

for (const program of ['none', 'gzip', 'zstd'] as const) {
  test(`container image: the disk in /disk of a layer, compressed by ${program}`, async (t) => {
    const dir = tmpDir(t);
    const disk = makeDisk(dir);
    mkdirSync(join(dir, 'disk'));
    renameSync(disk, join(dir, 'disk/fedora.img'));
    const layer = tar(dir, 'layer', '-S', './disk/');
    mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
    renameSync(program === 'none' ? layer : compress(layer, program), join(dir, 'blobs/sha256/11'));
    writeFileSync(join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    writeFileSync(join(dir, 'index.json'), '{}');
    const path = tar(dir, 'a', 'blobs', 'index.json', 'oci-layout');
    const outcome = await unpackFile(t, path);
    assert.equal(outcome.member, 'disk/fedora.img');
    checkOutcome(outcome, join(dir, 'disk/fedora.img'), path);
  });
}

test('an archive with more than one disk, with none, or without the one named', async (t) => {
  const dir = tmpDir(t);
  const disk = makeDisk(dir);
  for (let n = 0; n < 12; n += 1) cpSync(disk, join(dir, `${n}${'x'.repeat(150)}.raw`));
  writeFileSync(join(dir, 'README'), 'text');
  const many = tar(
    dir,
    'a',
    '-S',
    ...Array.from({ length: 12 }, (_, n) => `${n}${'x'.repeat(150)}.raw`),
  );
  await assert.rejects(unpackFile(t, many), ({ code, message }: Error & { code: string }) => {
    assert.equal(code, 'member');
    assert.match(message, /more than one disk in it: name one as member \(0x+…, 1x+…/);
    assert.match(message, /and 2 more\)$/);
    return true;
  });
  const none = tar(dir, 'b', 'README');
  await assert.rejects(unpackFile(t, none), { message: /there is no disk in it \(README\)/ });
  const nested = tar(dir, 'c', 'b');
  await assert.rejects(unpackFile(t, nested), {
    code: 'member',
    message: /no disk in it outside of its archives .*: name a file as member \(b, README\)$/,
  });
  await assert.rejects(unpackFile(t, none, { member: 'disk' }), {
    message: /there is no file disk in it \(README\)/,
  });
  await assert.rejects(unpackFile(t, compress(disk, 'gzip'), { member: 'disk' }), {
    message: /it is no archive, so it has no member disk/,
  });
});

test('links, devices and names that lead elsewhere are never followed or made', async (t) => {
  const dir = tmpDir(t);
  const disk = makeDisk(dir);
  const secret = join(dir, 'secret');
  writeFileSync(secret, 'secret');
  symlinkSync(secret, join(dir, 'link.raw'));
  linkSync(disk, join(dir, 'hard.raw'));
  execFileSync('mkfifo', [join(dir, 'pipe.raw')]);
  const path = tar(
    dir,
    'a',
    '-P',
    '-S',
    'link.raw',
    'pipe.raw',
    `${dir}/../${dir.split('/').at(-1)}/disk.raw`,
    'hard.raw',
    'disk.raw',
  );
  const named = execFileSync('tar', ['-tPf', path], { encoding: 'utf8' });
  assert.match(named, /\.\.\//);
  assert.match((await unpackFile(t, path)).member ?? '', /disk\.raw$/);
  assert.equal(readFileSync(secret, 'utf8'), 'secret');
  for (const member of ['link.raw', 'pipe.raw', 'hard.raw']) {
    await assert.rejects(unpackFile(t, path, { member }), { message: /there is no file/ });
  }
});

test('a name that is in an archive twice is refused', async (t) => {
  const dir = tmpDir(t);
  makeDisk(dir);
  const path = tar(dir, 'a', '-S', 'disk.raw');
  execFileSync('tar', ['-C', dir, '-S', '-rf', path, 'disk.raw']);
  await assert.rejects(unpackFile(t, path), { message: /more than one disk/ });
  await assert.rejects(unpackFile(t, path, { member: 'disk.raw' }), {
    message: /more than one file disk\.raw/,
  });
});

test('checksums that the caller does not need are not computed', async (t) => {
  const dir = tmpDir(t);
  const disk = makeDisk(dir);
  const packed = compress(disk, 'gzip');
  const [source, dest] = [openSync(packed, 'r'), openSync(join(dir, 'target'), 'w+')];
  t.after(() => [source, dest].map((fd) => closeSync(fd)));
  const limits = { maxBytes: 64 * MiB };
  const request = { source, dest, name: packed, limits, onProgress: () => {} };
  const waiting = { signal: AbortSignal.timeout(patient(30_000)) };
  const order = { what: 'reading', algorithms: ['sha256'], holes: 'skipped' } as const;
  const unpacked = await unpack(request, waiting);
  const [content] = await digest(dest, order, waiting);
  assert.deepEqual(unpacked, {
    fileBytes: 3 * MiB,
    content,
    source: { sha256: sha256(readFileSync(packed)) },
  });
});

test('a bomb ends at the limit', async (t) => {
  const dir = tmpDir(t);
  const zeros = join(dir, 'zeros');
  writeFileSync(zeros, '');
  truncateSync(zeros, 10 * MiB);
  const limit = { maxBytes: 8 * MiB };
  for (const program of Object.values(compressors)) {
    await assert.rejects(unpackFile(t, compress(zeros, program), limit), {
      code: 'refused',
      message: /the disk in it is larger than the 8388608 bytes allowed/,
    });
  }
  truncateSync(zeros, 2 ** 42);
  await assert.rejects(unpackFile(t, tar(dir, 'a', '-S', 'zeros'), limit), {
    message: /the disk in it is larger/,
  });
  // A file that is not wanted counts as well.
  const gzip = Buffer.from(execFileSync('gzip', ['-c'], { input: Buffer.alloc(64 * MiB) }));
  writeFileSync(join(dir, 'many.gz'), Buffer.concat(Array.from({ length: 5 }, () => gzip)));
  await assert.rejects(unpackFile(t, join(dir, 'many.gz'), { maxBytes: MiB }), { code: 'refused' });
});

test('a signal ends an import within a second', async (t) => {
  const dir = tmpDir(t);
  const zeros = join(dir, 'zeros');
  writeFileSync(zeros, '');
  truncateSync(zeros, 2 ** 42);
  const path = tar(dir, 'a', '-S', 'zeros');
  const abort = new AbortController();
  const running = Promise.withResolvers<void>();
  const asked = unpackFile(t, path, {
    maxBytes: 2 ** 43,
    signal: abort.signal,
    onProgress: () => running.resolve(),
  });
  asked.catch(() => {});
  await running.promise;
  const began = performance.now();
  abort.abort(new Error('the job was stopped'));
  await assert.rejects(asked, { code: 'io', message: /cancelled/ });
  assert.ok(performance.now() - began < patient(1000));
});
