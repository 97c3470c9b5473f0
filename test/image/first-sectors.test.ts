import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { deflateRawSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { writeIso } from '#cloudinit';
import type { BootKind } from '../../src/image/first-sectors.ts';
import { bootKind } from '../../src/image/index.ts';
import { openImage } from '../../src/image/open-image.ts';
import { sectorImage } from '../support/images.ts';
import { tmpDir } from '../support/tmp.ts';

const maxVirtualBytes = 2 ** 40;
const l1Offset = (image: Buffer): number => Number(image.readBigUInt64BE(40));
const l2Offset = (image: Buffer): number =>
  Number(image.readBigUInt64BE(l1Offset(image)) & 0x00fffffffffffe00n);

async function kindOf(dir: string, content: Uint8Array): Promise<BootKind> {
  const path = join(dir, 'disk.img');
  writeFileSync(path, content);
  const roots = { trusted: [dir], task: [], relativeTo: [] };
  const waiting = { signal: AbortSignal.timeout(5000) };
  using image = await openImage(path, roots, { maxVirtualBytes }, waiting);
  return await bootKind(image);
}

const bootable = (): Buffer => readFileSync(sectorImage(0));
const gpt = (): Buffer => {
  const disk = Buffer.alloc(4096);
  disk.writeUInt16BE(0x55aa, 510);
  disk.write('EFI PART', 512);
  return disk;
};

const efiRecord = (type = 0xef): Buffer => {
  const disk = Buffer.alloc(4096);
  disk[446 + 16 + 4] = type;
  disk.writeUInt16BE(0x55aa, 510);
  return disk;
};

const cd = (): Buffer => Buffer.from(writeIso(new Map(), { label: 'cd' }));

const disks: Readonly<Record<string, readonly [BootKind, () => Uint8Array]>> = {
  'a raw disk with boot code': ['bios', bootable],
  'a qcow2 disk with boot code': ['bios', () => readFileSync(sectorImage(0, 'qcow2'))],
  'a GPT without boot code': ['uefi', gpt],
  'a GPT with boot code': [
    'bios',
    () => Buffer.concat([bootable().subarray(0, 512), gpt().subarray(512)]),
  ],
  'an EFI partition in a boot record without code': ['uefi', efiRecord],
  'a boot record with other partitions and no code': ['none', () => efiRecord(0x83)],
  'a CD image': ['cd', cd],
  'a CD image that boots from a disk as well': [
    'bios',
    () => Buffer.concat([bootable().subarray(0, 512), cd().subarray(512)]),
  ],
  zeros: ['none', () => Buffer.alloc(4096)],
  'a file system without partitions': ['none', () => Buffer.alloc(4096, 7)],
  'one sector': ['unknown', () => bootable().subarray(0, 512)],
};
for (const [name, [kind, disk]] of Object.entries(disks)) {
  test(`boot kind: ${name} is ${kind}`, async (t) => {
    assert.equal(await kindOf(tmpDir(t), disk()), kind);
  });
}

test('an image is looked at once, so that a start does not change its mind', async (t) => {
  const dir = tmpDir(t);
  const path = join(dir, 'disk.img');
  writeFileSync(path, bootable());
  const roots = { trusted: [dir], task: [], relativeTo: [] };
  using image = await openImage(path, roots, { maxVirtualBytes }, { signal: t.signal });
  assert.equal(await bootKind(image), 'bios');
  writeFileSync(path, gpt());
  assert.equal(await bootKind(image), 'bios');
});

test('boot kind: a disk that can not be read is an error of the system that names the disk', async (t) => {
  const path = join(tmpDir(t), 'disk.img');
  writeFileSync(path, gpt());
  const roots = { trusted: [dirname(path)], task: [], relativeTo: [] };
  const waiting = { signal: AbortSignal.timeout(5000) };
  const image = await openImage(path, roots, { maxVirtualBytes }, waiting);
  image[Symbol.dispose]();
  await assert.rejects(bootKind(image), {
    name: 'ImageError',
    code: 'io',
    message: `reading the first sectors of ${path}: EBADF: bad file descriptor, read`,
  });
});

type Packing = 'none' | 'deflate' | 'zstd';

/** A disk of at most one L2 table as a qcow2 image. Compressed clusters stand back to back, inside the same sectors. */
function qcow2(disk: Uint8Array, bits: number, packing: Packing): Buffer {
  const clusterBytes = 2 ** bits;
  const [refcounts, l1, l2, data] = [1, 2, 3, 4].map((it) => it * clusterBytes);
  assert.ok(refcounts && l1 && l2 && data);
  const tables = Buffer.alloc(data);
  tables.write('QFI\xfb', 'latin1');
  for (const [at, value] of [
    [4, 3],
    [20, bits],
    [36, 1],
    [56, 1],
    [76, packing === 'zstd' ? 8 : 0],
    [96, 4],
    [100, 112],
  ] as const) {
    tables.writeUInt32BE(value, at);
  }
  tables.writeBigUInt64BE(BigInt(disk.length), 24);
  tables.writeBigUInt64BE(BigInt(l1), 40);
  tables.writeBigUInt64BE(BigInt(refcounts), 48);
  tables[104] = packing === 'zstd' ? 1 : 0;
  tables.writeBigUInt64BE(BigInt(l2) | (1n << 63n), l1);
  const parts: Buffer[] = [];
  let end = data;
  for (let index = 0; index * clusterBytes < disk.length; index++) {
    const cluster = disk.subarray(index * clusterBytes, (index + 1) * clusterBytes);
    const part = packed(cluster, packing);
    tables.writeBigUInt64BE(l2Entry(end, part.length, bits, packing), l2 + index * 8);
    parts.push(part);
    end += part.length;
  }
  // A sector of other data behind the last one, as in a longer image.
  return Buffer.concat([tables, ...parts, Buffer.alloc(clusterBytes + 512, 0xa5)]);
}

function packed(cluster: Uint8Array, packing: Packing): Buffer {
  if (packing === 'deflate') return deflateRawSync(cluster);
  return packing === 'zstd' ? zstdCompressSync(cluster) : Buffer.from(cluster);
}

function l2Entry(offset: number, bytes: number, bits: number, packing: Packing): bigint {
  if (packing === 'none') return BigInt(offset) | (1n << 63n);
  const more = Math.floor((offset + bytes - 1) / 512) - Math.floor(offset / 512);
  return BigInt(offset) | (BigInt(more) << BigInt(62 - (bits - 8))) | (1n << 62n);
}

for (const packing of ['none', 'deflate', 'zstd'] as const) {
  for (const bits of [9, 10, 12, 16, 21]) {
    test(`boot kind: in clusters of 2^${bits} bytes, compression: ${packing}`, async (t) => {
      const dir = tmpDir(t);
      for (const disk of [gpt(), bootable(), Buffer.alloc(4096)]) {
        const padded = Buffer.alloc(Math.max(4096, 2 ** bits));
        disk.copy(padded);
        assert.equal(await kindOf(dir, qcow2(padded, bits, packing)), await kindOf(dir, padded));
      }
    });
  }
}

test('boot kind: a GPT behind a first cluster that was never written', async (t) => {
  const disk = gpt();
  disk.fill(0, 0, 512);
  const image = qcow2(disk, 9, 'none');
  image.writeBigUInt64BE(0n, l2Offset(image));
  assert.equal(await kindOf(tmpDir(t), image), 'uefi');
});

/** One raw block in a zstd frame that asks its reader for a window of this size (RFC 8878, 3.1.1). */
function zstdFrame(content: Uint8Array, windowLog: number): Buffer {
  const block = Buffer.alloc(3);
  block.writeUIntLE(content.length * 8 + 1, 0, 3);
  const head = Buffer.of(0x28, 0xb5, 0x2f, 0xfd, 0, (windowLog - 10) << 3);
  return Buffer.concat([head, block, content]);
}

const frames: Readonly<Record<string, readonly [BootKind, Buffer]>> = {
  'a window of 8 MiB': ['bios', zstdFrame(bootable().subarray(0, 1024), 23)],
  'a window of 128 MiB, which would fill the memory': [
    'unknown',
    zstdFrame(bootable().subarray(0, 1024), 27),
  ],
  'less than two sectors': ['unknown', zstdFrame(bootable().subarray(0, 512), 16)],
  'no frame': ['unknown', Buffer.alloc(2048)],
  'the beginning of a frame': ['unknown', zstdFrame(Buffer.alloc(0), 16).subarray(0, 6)],
};
for (const [name, [kind, frame]] of Object.entries(frames)) {
  test(`boot kind: a zstd cluster with ${name} is ${kind}`, async (t) => {
    const image = qcow2(Buffer.alloc(2 ** 16, randomBytes(2 ** 16)), 16, 'zstd');
    const at = Number(image.readBigUInt64BE(l2Offset(image)) & 0xffffffn);
    image.fill(0, at).set(frame, at);
    assert.equal(await kindOf(tmpDir(t), image), kind);
  });
}

async function withEntry(t: TestContext, level: 1 | 2, entry: bigint): Promise<BootKind> {
  const image = readFileSync(sectorImage(0, 'qcow2'));
  image.writeBigUInt64BE(entry, level === 1 ? l1Offset(image) : l2Offset(image));
  return kindOf(tmpDir(t), image);
}

test('boot kind: tables that point anywhere never make it an error', async (t) => {
  const entries = [
    0n,
    1n,
    0x00fffffffffffe00n,
    2n ** 64n - 1n,
    1n << 40n,
    (1n << 62n) - 1n,
    1n << 62n,
  ];
  for (const entry of entries) {
    assert.equal(await withEntry(t, 1, entry), 'unknown');
    // A cluster of zeros: none at all, or one that its lowest bit makes one; not where it is compressed.
    const isZeros = entry === 0n || (entry & (1n | (1n << 62n))) === 1n;
    assert.equal(await withEntry(t, 2, entry), isZeros ? 'none' : 'unknown');
  }
});

test('boot kind: property: no entry makes it throw', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(1, 2), fc.bigInt(0n, 2n ** 64n - 1n), async (level, entry) => {
      await withEntry(t, level === 1 ? 1 : 2, entry);
    }),
    { numRuns: 50 },
  );
});
