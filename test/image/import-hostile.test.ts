import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { importBytes } from '../support/memory-import.ts';
import { blocksOf, octal, pax, tarEnd, tarHeader } from '../support/tar-blocks.ts';
import { tmpDir } from '../support/tmp.ts';

const sector = Buffer.concat([Buffer.from('\xeb\x3c\x90', 'latin1'), Buffer.alloc(509)]);

/** An old GNU sparse header. */
function sparse(
  fileBytes: number | Buffer,
  parts: readonly (readonly [number, number])[],
  more = 0,
): Buffer {
  const map = Buffer.concat(parts.flatMap(([at, length]) => [octal(at), octal(length)]));
  const stored = parts.reduce((sum, [, length]) => sum + length, 0);
  const size = typeof fileBytes === 'number' ? octal(fileBytes) : fileBytes;
  return tarHeader({
    type: 'S',
    size: stored,
    at: { 386: map, 482: Buffer.of(more), 483: size },
  });
}

const huge = Buffer.from('800000008000000000000000', 'hex');
const negative = Buffer.from('ffffffffffffffffffffff00', 'hex');
const file = Buffer.concat([tarHeader({ size: 512 }), sector]);
const sparsePax = (records: Record<string, string>, stored = 512): Buffer =>
  Buffer.concat([
    pax({ 'GNU.sparse.size': '4096', ...records }),
    tarHeader({ size: stored }),
    blocksOf(Buffer.alloc(stored, 7)),
  ]);

const cases: Readonly<Record<string, readonly [file: Buffer, message: RegExp]>> = {
  'a size of 2^63': [tarHeader({ size: huge }), /a size that is none or too large/],
  'a negative size': [tarHeader({ size: negative }), /header in it is not valid|none or too large/],
  'a size that is no number': [tarHeader({ size: Buffer.from('zzzzzzz') }), /header in it is not/],
  'a size of 2^63 in an extended header': [
    Buffer.concat([pax({ size: '9223372036854775808' }), file]),
    /a size that is none or too large/,
  ],
  'a negative size in an extended header': [
    Buffer.concat([pax({ size: '-512' }), file]),
    /header in it is not valid/,
  ],
  'an extended header of 8 GiB': [
    tarHeader({ type: 'x', size: 2 ** 33 - 1 }),
    /a header in the archive has 8589934591 bytes/,
  ],
  'a global header of 2^63': [tarHeader({ type: 'g', size: huge }), /none or too large/],
  'a long name of 2 MiB': [tarHeader({ type: 'L', size: 2 ** 21 }), /has 2097152 bytes/],
  'a name of 5000 bytes': [
    Buffer.concat([pax({ path: 'x'.repeat(5000) }), file]),
    /a name in the archive has more than 4096 bytes/,
  ],
  'extended headers without end': [
    Buffer.concat(Array.from({ length: 50 }, () => pax({ a: 'b' }))),
    /too many extended headers/,
  ],
  'a wrong checksum': [Buffer.concat([file, Buffer.alloc(512, 1)]), /header in it is not valid/],
  'a map that overlaps': [
    sparse(4096, [
      [0, 512],
      [511, 512],
    ]),
    /overlap or are not in their order/,
  ],
  'a map that is not sorted': [
    sparse(4096, [
      [1024, 512],
      [0, 512],
    ]),
    /overlap or are not in their order/,
  ],
  'a map past the end': [sparse(4096, [[4000, 512]]), /a part behind its end/],
  'a sparse file of 2^63': [sparse(huge, [[0, 512]]), /none or too large/],
  'a sparse file of a negative size': [sparse(negative, [[0, 512]]), /none or too large/],
  'a map with other bytes than are stored': [
    tarHeader({
      type: 'S',
      size: 1024,
      at: { 386: Buffer.concat([octal(0), octal(512)]), 483: octal(4096) },
    }),
    /512 bytes in parts but 1024 stored/,
  ],
  'a map that goes on for ever': [
    Buffer.concat([
      sparse(4096, [[0, 0]], 1),
      ...Array.from({ length: 9 }, () => Buffer.alloc(512, 1)),
    ]),
    /goes on behind its end|none or too large/,
  ],
  'PAX 0.1: half a pair': [sparsePax({ 'GNU.sparse.map': '0,512,1024' }), /a map without pairs/],
  'PAX 0.1: past the end': [sparsePax({ 'GNU.sparse.map': '4000,512' }), /behind its end/],
  'PAX 0.1: numbers of 2^63': [
    sparsePax({ 'GNU.sparse.map': '9223372036854775808,512' }),
    /none or too large/,
  ],
  'PAX 0.0: a length without its place': [
    sparsePax({ 'GNU.sparse.numbytes': '512' }),
    /a map without pairs/,
  ],
  'PAX 1.0: a map without end': [
    sparsePax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0' }),
    /too long in its map|longer than it/,
  ],
  'PAX 2.0': [
    sparsePax({ 'GNU.sparse.major': '2', 'GNU.sparse.minor': '0' }),
    /of a format that is unknown/,
  ],
};

for (const [name, [bytes, message]] of Object.entries(cases)) {
  test(`an archive with ${name} is refused`, async () => {
    await assert.rejects(importBytes(Buffer.concat([bytes, tarEnd])), { code: 'refused', message });
  });
}

test('a map of a million parts and one more is refused', async () => {
  const map = `1000001\n${'0\n0\n'.repeat(1000)}`;
  const archive = Buffer.concat([
    pax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '4096' }),
    tarHeader({ size: blocksOf(map).length }),
    blocksOf(map),
    tarEnd,
  ]);
  await assert.rejects(importBytes(archive), { message: /more than 1000000 parts/ });
});

test('more files than an import may have are refused', async () => {
  const one = tarHeader({ name: 'x', size: 0 });
  const archive = gzipSync(Buffer.concat([...Array.from({ length: 20_001 }, () => one), tarEnd]));
  await assert.rejects(importBytes(archive), { message: /it has more than 20000 files/ });
});

test('compression in compression ends at its limit; xz in xz is refused and does not wait', async () => {
  let bytes: Uint8Array = Buffer.concat([file, tarEnd]);
  for (let depth = 0; depth < 8; depth += 1) bytes = gzipSync(bytes);
  await assert.rejects(importBytes(bytes), { message: /packed into more than 6/ });
  const xz = (input: Uint8Array): Buffer =>
    execFileSync('xz', ['-c'], { input, maxBuffer: 2 ** 22 });
  const noise = createHash('shake256', { outputLength: 2 ** 20 })
    .update('noise')
    .digest();
  await assert.rejects(importBytes(xz(xz(noise))), { message: /xz-compressed twice/ });
  // As it is afterwards.
  assert.equal((await importBytes(xz(sector))).fileBytes, 512);
});

test('an archive that is cut at any block is refused, whatever is in it', async (t) => {
  for (const archive of archives(t)) {
    const end = archive.length - trailingZeros(archive);
    for (let length = 512; length < end; length += 512) {
      await assert.rejects(
        importBytes(archive.subarray(0, length)),
        { code: 'refused' },
        `cut at ${length} of ${end}`,
      );
    }
    assert.equal((await importBytes(archive)).fileBytes, 64 * 1024);
  }
});

/** Archives of each kind with a sparse disk between other files. */
function archives(t: TestContext): readonly Buffer[] {
  const dir = tmpDir(t);
  const disk = Buffer.alloc(64 * 1024);
  for (let at = 0; at < 8; at += 1) disk.fill(0x5a, at * 8192, at * 8192 + 512);
  writeFileSync(join(dir, 'disk.raw'), disk);
  execFileSync('fallocate', ['-d', join(dir, 'disk.raw')]);
  writeFileSync(join(dir, 'a.txt'), 'text');
  mkdirSync(join(dir, 'folder'));
  const kinds = [
    ['--format=gnu'],
    ['--format=gnu', '-S'],
    ...['0.0', '0.1', '1.0'].map((it) => ['--format=pax', '-S', `--sparse-version=${it}`]),
  ];
  return kinds.map((args) => {
    const path = join(dir, 'archive');
    execFileSync('tar', ['-C', dir, ...args, '-b1', '-cf', path, 'folder', 'disk.raw', 'a.txt']);
    return readFileSync(path);
  });
}

function trailingZeros(archive: Buffer): number {
  let at = archive.length;
  while (at >= 512 && archive.subarray(at - 512, at).every((byte) => byte === 0)) at -= 512;
  return archive.length - at;
}
