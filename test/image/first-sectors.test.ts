import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { type BootKind, bootKind, openImage } from '../../src/image/index.ts';
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

const disks: Readonly<Record<string, readonly [BootKind, () => Uint8Array]>> = {
  'a raw disk with boot code': ['bios', bootable],
  'a qcow2 disk with boot code': ['bios', () => readFileSync(sectorImage(0, 'qcow2'))],
  'a GPT without boot code': ['uefi', gpt],
  'a GPT with boot code': [
    'bios',
    () => Buffer.concat([bootable().subarray(0, 512), gpt().subarray(512)]),
  ],
  zeros: ['unknown', () => Buffer.alloc(4096)],
  'one sector': ['unknown', () => bootable().subarray(0, 512)],
};
for (const [name, [kind, disk]] of Object.entries(disks)) {
  test(`boot kind: ${name} is ${kind}`, async (t) => {
    assert.equal(await kindOf(tmpDir(t), disk()), kind);
  });
}

async function withEntry(t: TestContext, level: 1 | 2, entry: bigint): Promise<BootKind> {
  const image = readFileSync(sectorImage(0, 'qcow2'));
  image.writeBigUInt64BE(entry, level === 1 ? l1Offset(image) : l2Offset(image));
  return kindOf(tmpDir(t), image);
}

test('boot kind: tables that point anywhere make it unknown, never an error', async (t) => {
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
    assert.equal(await withEntry(t, 2, entry), 'unknown');
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
