import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { inspectQcow2 } from '../../src/image/qcow2.ts';

const MiB = 2 ** 20;
const fileBytes = 4 * 65536;

/** A header as qemu-img writes it: 64 KiB clusters, 1 GiB, tables in clusters 1 to 3. */
function goodHeader(version: 2 | 3 = 3): DataView {
  const view = new DataView(new ArrayBuffer(4096));
  view.setUint32(0, 0x514649fb);
  view.setUint32(4, version);
  view.setUint32(20, 16);
  view.setBigUint64(24, 1024n * BigInt(MiB));
  view.setUint32(36, 2);
  view.setBigUint64(40, 3n * 65536n);
  view.setBigUint64(48, 65536n);
  view.setUint32(56, 1);
  if (version === 3) {
    view.setUint32(96, 4);
    view.setUint32(100, 112);
  }
  return view;
}

const inspect = (view: DataView, bytes = fileBytes): readonly string[] =>
  inspectQcow2(new Uint8Array(view.buffer), bytes).problems;

function addExtension(view: DataView, at: number, kind: number, bytes: number): void {
  view.setUint32(at, kind);
  view.setUint32(at + 4, bytes);
}

const accepted: Readonly<Record<string, (view: DataView) => void>> = {
  'as qemu-img writes it': () => {},
  'dirty refcounts': (view) => view.setBigUint64(72, 1n),
  'zstd compression, with its flag': (view) => {
    view.setBigUint64(72, 8n);
    view.setUint8(104, 1);
  },
  'extended L2 entries': (view) => {
    view.setBigUint64(72, 16n);
    view.setUint32(36, 4);
  },
  'a table of feature names': (view) => addExtension(view, 112, 0x6803f857, 384),
  'an unknown extension': (view) => addExtension(view, 112, 0x12345678, 13),
  'a header of 104 bytes': (view) => view.setUint32(100, 104),
  'an L1 table left over from a larger disk': (view) => view.setUint32(36, 8000),
};
for (const [name, change] of Object.entries(accepted)) {
  test(`qcow2 gate: passes: ${name}`, () => {
    const view = goodHeader();
    change(view);
    assert.deepEqual(inspect(view), []);
  });
}

test('qcow2 gate: passes version 2, and gives the size the guest will see', () => {
  const result = inspectQcow2(new Uint8Array(goodHeader(2).buffer), fileBytes);
  assert.deepEqual(result, { virtualBytes: 1024 * MiB, problems: [] });
});

const refused: Readonly<Record<string, readonly [RegExp, (view: DataView) => void]>> = {
  'V-34: a backing file': [/names a backing file/, (view) => view.setBigUint64(8, 120n)],
  'V-34: the length of a backing file name': [/backing file/, (view) => view.setUint32(16, 5)],
  'V-34: the format of a backing file': [
    /format of a backing file/,
    (view) => addExtension(view, 112, 0xe2792aca, 3),
  ],
  'V-34: an external data file, by its feature bit': [
    /data in another file/,
    (view) => view.setBigUint64(72, 4n),
  ],
  'V-34: an external data file, by its name': [
    /external data file/,
    (view) => addExtension(view, 112, 0x44415441, 11),
  ],
  'V-34: an external data file behind another extension': [
    /external data file/,
    (view) => {
      addExtension(view, 112, 0x6803f857, 384);
      addExtension(view, 112 + 8 + 384, 0x44415441, 11);
    },
  ],
  'another version': [/version is 1/, (view) => view.setUint32(4, 1)],
  'a version of the future': [/version is 4/, (view) => view.setUint32(4, 4)],
  'clusters too small': [/2\^8/, (view) => view.setUint32(20, 8)],
  'clusters too large': [/2\^22/, (view) => view.setUint32(20, 22)],
  'clusters absurd': [/2\^4294967295/, (view) => view.setUint32(20, 0xffffffff)],
  encryption: [/encrypted/, (view) => view.setUint32(32, 1)],
  'LUKS encryption by extension': [
    /encryption header/,
    (view) => addExtension(view, 112, 0x0537be77, 16),
  ],
  'internal snapshots': [/snapshots/, (view) => view.setUint32(60, 1)],
  'the corrupt mark': [/corrupt/, (view) => view.setBigUint64(72, 2n)],
  'an unknown feature': [/unknown features \(0x20\)/, (view) => view.setBigUint64(72, 32n)],
  'the highest feature bit': [/0x8000000000000000/, (view) => view.setBigUint64(72, 1n << 63n)],
  'compression without a type': [/compression type 0/, (view) => view.setBigUint64(72, 8n)],
  'extended L2 in small clusters': [
    /too small for the extended L2/,
    (view) => {
      view.setUint32(20, 12);
      view.setBigUint64(72, 16n);
    },
  ],
  'a header too short': [/header length/, (view) => view.setUint32(100, 96)],
  'a header length that is not aligned': [/header length/, (view) => view.setUint32(100, 109)],
  'a header longer than a cluster': [/header length/, (view) => view.setUint32(100, 65544)],
  'refcounts too wide': [/refcounts of 2\^7/, (view) => view.setUint32(96, 7)],
  'an extension longer than the header': [
    /longer than the header/,
    (view) => addExtension(view, 112, 0x6803f857, 65536),
  ],
  'an extension of 4 GiB': [
    /longer than the header/,
    (view) => addExtension(view, 112, 0x6803f857, 0xffffffff),
  ],
  'extensions that go on out of sight': [
    /do not end/,
    (view) => addExtension(view, 112, 0x6803f857, 8000),
  ],
  'no size': [/size is 0/, (view) => view.setBigUint64(24, 0n)],
  'a size of 16 EiB': [/too large/, (view) => view.setBigUint64(24, 2n ** 64n - 1n)],
  'an L1 table too small': [/too small/, (view) => view.setUint32(36, 1)],
  'an L1 table of 32 GiB': [/L1 table of 4294967295/, (view) => view.setUint32(36, 0xffffffff)],
  'an L1 table far larger than the disk': [/too large/, (view) => view.setUint32(36, 70000)],
  'an L1 table outside the file': [/outside/, (view) => view.setBigUint64(40, 1n << 40n)],
  'an L1 table between clusters': [/begin at a cluster/, (view) => view.setBigUint64(40, 512n)],
  'no L1 table': [/L1 table does not begin/, (view) => view.setBigUint64(40, 0n)],
  'no refcount table': [/refcount table/, (view) => view.setUint32(56, 0)],
  'a refcount table of 256 TiB': [/invalid size/, (view) => view.setUint32(56, 0xffffffff)],
  'a refcount table outside the file': [
    /refcount table lies outside/,
    (view) => view.setBigUint64(48, 0xffffffffffff0000n),
  ],
};
for (const [name, [message, change]] of Object.entries(refused)) {
  test(`qcow2 gate: refuses: ${name}`, () => {
    const view = goodHeader();
    change(view);
    const problems = inspect(view);
    assert.notDeepEqual(problems, []);
    assert.match(problems.join('; '), message);
  });
}

test('qcow2 gate: all problems are reported together', () => {
  const view = goodHeader();
  view.setBigUint64(8, 512n);
  view.setBigUint64(72, 6n);
  view.setUint32(60, 3);
  assert.equal(inspect(view).length, 4);
});

test('qcow2 gate: a header cut at any byte is refused or harmless', () => {
  const whole = new Uint8Array(goodHeader().buffer);
  for (let cut = 0; cut < 120; cut += 1) {
    const { problems } = inspectQcow2(whole.subarray(0, cut), cut);
    assert.notDeepEqual(problems, [], `cut at ${cut}`);
  }
});

test('qcow2 gate: property: a header with any bytes changed never throws and never hides a reference', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(127), fc.nat(255)), { minLength: 1, maxLength: 12 }),
      (changes) => {
        const view = goodHeader();
        for (const [at, byte] of changes) view.setUint8(at, byte);
        const problems = inspect(view);
        const refers = view.getBigUint64(8) !== 0n || (view.getBigUint64(72) & 4n) !== 0n;
        if (refers) assert.notDeepEqual(problems, []);
      },
    ),
    { numRuns: 2000 },
  );
});

test('qcow2 gate: a view into a larger buffer is read at its own place', () => {
  const inside = new Uint8Array(8192);
  inside.set(new Uint8Array(goodHeader().buffer), 4096);
  assert.deepEqual(inspectQcow2(inside.subarray(4096), fileBytes).problems, []);
});
