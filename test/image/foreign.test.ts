import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inspectForeign } from '../../src/image/convert/foreign.ts';
import type { ForeignInspection } from '../../src/image/convert/foreign-file.ts';
import {
  diskBytes,
  pair,
  vdi,
  vhdx,
  vhdxItems,
  vmdk,
  vmdkDescriptor,
  vpc,
  wide,
} from '../support/foreign-images.ts';

type Format = 'vmdk' | 'vdi' | 'vhdx' | 'vpc';

function inspect(format: Format, bytes: Buffer): Promise<ForeignInspection> {
  return inspectForeign(format, {
    fileBytes: bytes.length,
    read: async (offset, length) => bytes.subarray(offset, offset + length),
  });
}

const changed = (bytes: Buffer, change: (bytes: Buffer) => void): Buffer => {
  const copy = Buffer.from(bytes);
  change(copy);
  return copy;
};

const good: readonly (readonly [string, Format, Buffer])[] = [
  ['a monolithicSparse vmdk', 'vmdk', vmdk()],
  [
    'a streamOptimized vmdk',
    'vmdk',
    vmdk({
      footer: true,
      descriptor: vmdkDescriptor.replace('monolithicSparse', 'streamOptimized'),
    }),
  ],
  ['a dynamic vdi', 'vdi', vdi()],
  ['a fixed vdi', 'vdi', changed(vdi(), (it) => it.writeUInt32LE(2, 0x4c))],
  ['a dynamic vhd', 'vpc', vpc()],
  ['a fixed vhd', 'vpc', vpc(2)],
  ['a vhdx', 'vhdx', vhdx()],
];

for (const [name, format, bytes] of good) {
  test(`design-4: the gate lets ${name} pass, with the size of its disk`, async () => {
    const { virtualBytes, problems } = await inspect(format, bytes);
    assert.deepEqual(problems, []);
    // A vhd has the size in its geometry as well, which may be a little more.
    assert.ok(
      virtualBytes >= diskBytes && virtualBytes < diskBytes + 2 ** 20,
      String(virtualBytes),
    );
  });
}

const descriptor = (change: (text: string) => string): Buffer =>
  vmdk({ descriptor: change(vmdkDescriptor) });
const withItem = (index: number, item: readonly [string, Buffer]): Buffer =>
  vhdx(vhdxItems.with(index, item));
const dynamicHeader = 512;

const hostile: readonly (readonly [string, Format, Buffer, RegExp])[] = [
  ['attack 4: a descriptor file', 'vmdk', Buffer.from(vmdkDescriptor), /list of other files/],
  [
    'attack 4: a header without a size',
    'vmdk',
    changed(vmdk(), (it) => it.fill(0, 12, 20)),
    /list of/,
  ],
  ['an extent of an ESX server', 'vmdk', Buffer.from('COWD'.padEnd(512, '\0')), /ESX/],
  [
    'attack 4: a flat extent',
    'vmdk',
    descriptor((it) => it.replace(/RW .*/, 'RW 32768 FLAT "/etc/shadow" 0')),
    /one sparse extent/,
  ],
  [
    'attack 4: a second extent',
    'vmdk',
    descriptor((it) => `${it}RW 32768 SPARSE "/etc/shadow"\n`),
    /one sparse extent/,
  ],
  ['no extent', 'vmdk', descriptor((it) => it.replace(/RW .*/, '')), /one sparse extent/],
  [
    'attack 1: a parent',
    'vmdk',
    descriptor((it) => `${it}parentFileNameHint="/etc/shadow"\n`),
    /names another image/,
  ],
  [
    "attack 1: a parent's name beyond what the header states",
    'vmdk',
    changed(
      descriptor((it) => `${it}${' '.repeat(2048)}parentFileNameHint="/etc/shadow"\n`),
      (it) => it.writeBigUInt64LE(1n, 36),
    ),
    /names another image/,
  ],
  [
    "attack 1: a parent's id",
    'vmdk',
    descriptor((it) => it.replace('parentCID=ffffffff', 'parentCID=1234abcd')),
    /based on another/,
  ],
  [
    'another subformat',
    'vmdk',
    descriptor((it) => it.replace('monolithicSparse', 'monolithicFlat')),
    /subformat is "monolithicflat"/,
  ],
  ['no description', 'vmdk', changed(vmdk(), (it) => it.fill(0, 28, 44)), /no description/],
  [
    'attack 6: 2^63 sectors',
    'vmdk',
    changed(vmdk(), (it) => it.writeBigUInt64LE(2n ** 63n, 12)),
    /./,
  ],
  [
    'attack 6: 2^42 sectors',
    'vmdk',
    changed(vmdk(), (it) => it.writeBigUInt64LE(2n ** 42n, 12)),
    /outside|too large/,
  ],
  ['grains of nothing', 'vmdk', changed(vmdk(), (it) => it.fill(0, 20, 28)), /grains/],
  [
    'a footer of another size',
    'vmdk',
    changed(vmdk({ footer: true }), (it) => it.writeBigUInt64LE(2n ** 40n, it.length - 1024 + 12)),
    /header and its footer are different/,
  ],
  ['a missing footer', 'vmdk', vmdk({ footer: true }).subarray(0, -1024), /footer is missing/],
  ['a differencing vdi', 'vdi', changed(vdi(), (it) => it.writeUInt32LE(4, 0x4c)), /type 4/],
  [
    'attack 1: a vdi with a parent',
    'vdi',
    changed(vdi(), (it) => it.fill(7, 0x1b8, 0x1c8)),
    /based on/,
  ],
  [
    'attack 1: a vdi of a snapshot',
    'vdi',
    changed(vdi(), (it) => it.fill(7, 0x1a8, 0x1b8)),
    /based on/,
  ],
  [
    'attack 6: a vdi of 2^63',
    'vdi',
    changed(vdi(), (it) => it.writeBigUInt64LE(2n ** 63n, 0x170)),
    /./,
  ],
  [
    'a block map outside',
    'vdi',
    changed(vdi(), (it) => it.writeUInt32LE(0xffff_ff00, 0x154)),
    /outside/,
  ],
  [
    'attack 6: 2^32 blocks',
    'vdi',
    changed(vdi(), (it) => it.writeUInt32LE(0xffff_ffff, 0x180)),
    /block map/,
  ],
  ['a cut vdi', 'vdi', vdi().subarray(0, 400), /complete/],
  ['attack 1: a differencing vhd', 'vpc', vpc(4), /based on another/],
  [
    "attack 1: a vhd with a parent's UUID",
    'vpc',
    changed(vpc(), (it) => it.fill(7, dynamicHeader + 0x28, dynamicHeader + 0x38)),
    /another image/,
  ],
  [
    "attack 1: a vhd with a parent's name",
    'vpc',
    changed(vpc(), (it) => it.write('/etc/shadow', dynamicHeader + 0x40, 'utf16le')),
    /another image/,
  ],
  [
    'attack 1: a vhd with a locator',
    'vpc',
    changed(vpc(), (it) => it.write('W2ku', dynamicHeader + 0x240)),
    /another image/,
  ],
  [
    'attack 6: a vhd with 2^32 blocks',
    'vpc',
    changed(vpc(), (it) => it.writeUInt32BE(0xffff_ffff, dynamicHeader + 0x1c)),
    /block table/,
  ],
  ['a short fixed vhd', 'vpc', vpc(2).subarray(diskBytes - 1024), /shorter/],
  [
    'attack 6: a vhd of 2^63',
    'vpc',
    changed(vpc(), (it) => it.writeBigUInt64BE(2n ** 63n, 0x30)),
    /./,
  ],
  [
    'attack 4: a vhdx with a parent',
    'vhdx',
    withItem(0, ['3767a1ca36fa434db3b633f0aa44e76b', pair(2 ** 20, 2)]),
    /based on another/,
  ],
  [
    'attack 4: a vhdx with a parent locator',
    'vhdx',
    vhdx([...vhdxItems, ['2d5fd3a80bb34d45abf7d3d84834ab0c', Buffer.alloc(20)]]),
    /parent locator/,
  ],
  [
    'a vhdx with two sizes',
    'vhdx',
    vhdx([...vhdxItems, ['2442a52f1bcd7648b2115dbed83bf4b8', wide(512n)]]),
    /twice/,
  ],
  [
    'attack 6: a vhdx of 2^63',
    'vhdx',
    withItem(1, ['2442a52f1bcd7648b2115dbed83bf4b8', wide(2n ** 63n)]),
    /./,
  ],
  [
    'attack 6: a vhdx of 1 EiB',
    'vhdx',
    withItem(1, ['2442a52f1bcd7648b2115dbed83bf4b8', wide(2n ** 50n)]),
    /64 TiB/,
  ],
  [
    'two region tables that differ',
    'vhdx',
    changed(vhdx(), (it) => it.writeUInt32LE(3 * 2 ** 20, 256 * 1024 + 48 + 16)),
    /different/,
  ],
  ['a cut vhdx', 'vhdx', vhdx().subarray(0, 200 * 1024), /region table/],
];

for (const [name, format, bytes, text] of hostile) {
  test(`design-4: the gate refuses ${format}: ${name}`, async () => {
    const { virtualBytes, problems } = await inspect(format, bytes);
    assert.match(problems.join('; '), text);
    assert.equal(virtualBytes, 0);
  });
}

/** Reproducible: mulberry32. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

test('the gates take any change of a header without a crash, and pass no size that is none', async () => {
  const next = random(20261127);
  const places: Readonly<Record<Format, readonly number[]>> = {
    vmdk: [0, 1024],
    vdi: [0, 512],
    vpc: [0, 1536],
    vhdx: [192 * 1024, 192 * 1024 + 96, 2 * 2 ** 20, 2 * 2 ** 20 + 256],
  };
  let passed = 0;
  for (let round = 0; round < 20_000; round += 1) {
    const [, format, base] = good[round % good.length] ?? assert.fail();
    const [from = 0, to = 512] = places[format].slice(round % 3 === 0 ? -2 : 0);
    const saved: [number, number][] = [];
    for (let changes = 1 + next(8); changes > 0; changes -= 1) {
      const at = from + next(to - from);
      saved.push([at, base.readUInt8(at)]);
      base.writeUInt8([0, 1, 0x7f, 0x80, 0xff, next(256)][next(6)] ?? 0, at);
    }
    const { virtualBytes, problems } = await inspect(
      format,
      base.subarray(0, base.length - next(3)),
    );
    for (const [at, byte] of saved.toReversed()) base.writeUInt8(byte, at);
    if (problems.length > 0) continue;
    passed += 1;
    assert.ok(Number.isSafeInteger(virtualBytes) && virtualBytes > 0);
  }
  assert.ok(passed > 1000, `${passed} passed`);
});
