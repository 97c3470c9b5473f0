import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { closeFd, lockFile } from '#host';
import type { Checksum } from '#spec';
import { openAllowed } from '../../src/image/roots.ts';
import { Checksums } from '../../src/image/store/checksums.ts';
import { digest } from '../../src/image/store/digest.ts';
import { ImageStore, releaseImages } from '../../src/image/store/image-store.ts';
import type { ImportProgress, ImportRequest } from '../../src/image/store/import-image.ts';
import { vmdk } from '../support/foreign-images.ts';
import { patient } from '../support/patience.ts';
import { tmpDir } from '../support/tmp.ts';

const MiB = 2 ** 20;
const soon = (): { readonly signal: AbortSignal } => ({ signal: AbortSignal.timeout(20_000) });
const silent = (): void => {};
const log = { trace: silent, debug: silent, info: silent, warn: silent, error: silent };

/** Without a program: what needs none is imported all the same. */
const noConverter = { qemuImg: undefined, prlimit: undefined, uid: 70_321, mark: 'no-converter' };

interface Host {
  readonly dir: string;
  readonly store: ImageStore;
  /** A raw image with this content, and how it is asked for. */
  image(name: string, content: Buffer, request?: Partial<ImportRequest>): Promise<ImportRequest>;
}

function hostOf(t: TestContext, maxBytes = 2 ** 40): Host {
  const root = tmpDir(t);
  const dir = join(root, 'images');
  mkdirSync(join(root, 'source'));
  return {
    dir,
    store: new ImageStore({ dir, maxBytes, log }),
    image: async (name, content, request = {}) => {
      const path = join(root, 'source', name);
      if (!existsSync(path)) writeFileSync(path, content);
      const roots = { trusted: [root], task: [], relativeTo: [] };
      const file = await openAllowed(path, roots, soon());
      t.after(() => closeFd(file.fd));
      return { file, format: 'raw', maxVirtualBytes: 2 ** 40, converter: noConverter, ...request };
    },
  };
}

const content = (text: string, bytes = 3 * MiB): Buffer => {
  const disk = Buffer.alloc(bytes);
  disk.fill(text, 0, 100_000);
  disk.fill(text, bytes - 70_000, bytes - 10);
  return disk;
};

const namesIn = (dir: string): readonly string[] => (existsSync(dir) ? readdirSync(dir) : []);
const keysOf = (dir: string): readonly string[] =>
  namesIn(dir).filter((name) => /^[0-9a-f]{64}$/.test(name));
/** What is neither an image nor a lock nor a checksum. */
const leftIn = (dir: string): readonly string[] =>
  namesIn(dir).filter((name) => name.startsWith('.'));

async function obtain(
  { store }: Host,
  request: ImportRequest,
  {
    lease = 'vm-1',
    checksum,
    seen = [],
  }: { lease?: string; checksum?: Checksum; seen?: ImportProgress[] } = {},
): Promise<string> {
  const onProgress = (progress: ImportProgress): void => void seen.push(progress);
  using image = await store.obtain(request, { lease, checksum, onProgress }, soon());
  return image.path;
}

test('V-45: an image is stored once for the same content, whatever the name of the file, and stays what it was', async (t) => {
  const host = hostOf(t);
  const bytes = content('once ');
  const first = await obtain(host, await host.image('one.img', bytes));
  const again = await obtain(host, await host.image('two.img', bytes), { lease: 'vm-2' });
  assert.equal(first, again);
  assert.ok(readFileSync(first).equals(bytes));
  assert.equal(statSync(first).mode & 0o777, 0o400);
  assert.ok(statSync(first).blocks * 512 < MiB, 'holes are kept');
  assert.deepEqual(readdirSync(join(first, '../users')).toSorted(), ['vm-1', 'vm-2']);
  assert.deepEqual(leftIn(host.dir), []);
  const other = await obtain(host, await host.image('three.img', content('other ')));
  assert.notEqual(other, first);
});

test('the same content taken apart in another way is another image', async (t) => {
  const host = hostOf(t);
  const bytes = content('key ');
  const paths = new Set<string>();
  for (const change of [{}, { member: 'a' }, { member: 'b' }, { to: 'raw' }] as const) {
    paths.add(await obtain(host, await host.image('one.img', bytes, change)));
  }
  assert.equal(paths.size, 4);
});

test('twenty tasks that ask at once make one image', async (t) => {
  const host = hostOf(t);
  const bytes = content('many ');
  const requests = await Promise.all(
    Array.from({ length: 20 }, (_, index) => host.image(`${index % 4}.img`, bytes)),
  );
  const seen: ImportProgress[] = [];
  const paths = await Promise.all(
    requests.map((request, index) => obtain(host, request, { lease: `vm-${index}`, seen })),
  );
  assert.equal(new Set(paths).size, 1);
  assert.equal(keysOf(host.dir).length, 1);
  assert.equal(readdirSync(join(paths[0] ?? '', '../users')).length, 20);
});

/** A compressed file, which no store has seen: as large as its content. */
const packedNoise = (bytes: number): Buffer => gzipSync(randomBytes(bytes), { level: 0 });

/** What this process has read so far, its threads included. */
const readBytes = (): number =>
  Number(/rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);

const isUnpacked = (seen: readonly ImportProgress[]): boolean =>
  seen.some(({ step }) => step === 'unpacking');

test('a packed file that is new to the store is read once, and by its checksum only where it may be there', async (t) => {
  const host = hostOf(t);
  const packed = packedNoise(16 * MiB);
  const changed = Buffer.from(packed);
  changed.writeUInt8(changed.readUInt8(1000) ^ 1, 1000);
  const request = await host.image('one.gz', packed, { format: undefined });
  const before = readBytes();
  const path = await obtain(host, request);
  assert.ok(readBytes() - before < 1.5 * packed.length, `${readBytes() - before} bytes`);
  const { source } = JSON.parse(readFileSync(join(path, '../image.json'), 'utf8'));
  assert.equal(source.sha256, createHash('sha256').update(packed).digest('hex'));
  assert.equal(source.bytes, packed.length);
  const seen: ImportProgress[] = [];
  const copy = await host.image('copy.gz', packed, { format: undefined });
  assert.equal(await obtain(host, copy, { lease: 'vm-2', seen }), path);
  assert.equal(isUnpacked(seen), false, 'nothing is unpacked to find what is there');
  // As older releases stored it, whose sources are of unknown size.
  const { bytes: _, ...older } = source;
  const image = JSON.parse(readFileSync(join(path, '../image.json'), 'utf8'));
  writeFileSync(join(path, '../image.json'), JSON.stringify({ ...image, source: older }));
  assert.equal(await obtain(host, copy, { lease: 'vm-3', seen }), path);
  assert.equal(isUnpacked(seen), false);
  // Of the same size, and not the same.
  const other = await host.image('other.gz', changed, { format: undefined });
  await assert.rejects(obtain(host, other, { lease: 'vm-4', seen }), /damaged/);
  assert.equal(isUnpacked(seen), true);
  assert.deepEqual([keysOf(host.dir).length, leftIn(host.dir)], [1, []]);
});

test('twenty tasks of two processes that ask at once for copies of a packed file unpack it once', async (t) => {
  const host = hostOf(t);
  const other = { ...host, store: new ImageStore({ dir: host.dir, maxBytes: 2 ** 40, log }) };
  const packed = packedNoise(MiB);
  const requests = await Promise.all(
    Array.from({ length: 20 }, (_, index) =>
      host.image(`${index % 4}.gz`, packed, { format: undefined }),
    ),
  );
  // The checksum of one of them is known, of the others not.
  const { file } = await host.image('0.gz', packed);
  while (Date.now() - statSync(file.path).ctimeMs < 3100) await sleep(50);
  await new Checksums(join(host.dir, 'checksums')).of(file, 'sha256', soon());
  const made = await Promise.all(
    requests.map(async (request, index) => {
      const seen: ImportProgress[] = [];
      const use = { lease: `vm-${index}`, seen };
      return { path: await obtain(index % 2 === 0 ? host : other, request, use), seen };
    }),
  );
  assert.equal(new Set(made.map(({ path }) => path)).size, 1);
  assert.equal(made.filter(({ seen }) => isUnpacked(seen)).length, 1);
  assert.equal(readdirSync(join(made[0]?.path ?? '', '../users')).length, 20);
  assert.deepEqual([keysOf(host.dir).length, leftIn(host.dir)], [1, []]);
});

test('a wrong checksum names both sums, and nothing is stored', async (t) => {
  const host = hostOf(t);
  const bytes = content('sum ');
  const request = await host.image('one.img', bytes);
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const right = createHash(algorithm).update(bytes).digest('hex');
    const wrong = { algorithm, hex: right.replace(/^./, (digit) => (digit === '0' ? '1' : '0')) };
    await assert.rejects(obtain(host, request, { checksum: wrong }), (error: Error) => {
      assert.match(
        error.message,
        new RegExp(`${algorithm}:${right}, not ${algorithm}:${wrong.hex}`),
      );
      return 'code' in error && error.code === 'refused';
    });
    assert.deepEqual(keysOf(host.dir), []);
    await host.store.verify(request.file, { algorithm, hex: right }, soon());
  }
});

test('V-45: a checksum is computed once while a file stays as it is, and again when it was written to', async (t) => {
  const host = hostOf(t);
  const { file } = await host.image('one.img', content('cache '));
  const checksums = new Checksums(join(host.dir, 'checksums'));
  // A file that was written just now is not remembered: it may be written again within the same tick of the clock.
  await checksums.of(file, 'sha256', soon());
  assert.equal(existsSync(join(host.dir, 'checksums')), false);
  while (Date.now() - statSync(file.path).ctimeMs < 3100) await sleep(50);
  const before = await checksums.of(file, 'sha256', soon());
  const [name = ''] = readdirSync(join(host.dir, 'checksums'));
  // What is remembered is what is answered, without a look at the file.
  const known = join(host.dir, 'checksums', name);
  writeFileSync(known, JSON.stringify({ sha256: 'a'.repeat(64) }));
  assert.equal(await checksums.of(file, 'sha256', soon()), 'a'.repeat(64));
  writeFileSync(known, '{"sha256":"aaa');
  assert.equal(await checksums.of(file, 'sha256', soon()), before);
  appendFileSync(file.path, 'x');
  assert.notEqual(await checksums.of(file, 'sha256', soon()), before);
  for (let at = 0; at < 30; at += 1) copyFileSync(known, `${known}${at}`);
  await checksums.collect(10);
  assert.equal(readdirSync(join(host.dir, 'checksums')).length, 10);
});

test('V-45: the most room is a high-water mark: least recently used first, never an image in use', async (t) => {
  const host = hostOf(t, 2.5 * MiB);
  const names = ['a', 'b', 'c', 'd'];
  const paths: string[] = [];
  for (const name of names) {
    const full = Buffer.alloc(MiB, name);
    paths.push(await obtain(host, await host.image(name, full), { lease: `vm-${name}` }));
  }
  assert.deepEqual(paths.map(existsSync), [true, true, true, true], 'all are in use');
  for (const [index, name] of names.entries()) {
    if (name !== 'b') await releaseImages(host.dir, `vm-${name}`);
    const users = join(paths[index] ?? '', '../users');
    utimesSync(users, 1000 - index, 1000 - index);
  }
  await host.store.collect(soon());
  // d and c were not used for longest; b is in use, a the most recent one.
  assert.deepEqual(paths.map(existsSync), [true, true, false, false]);
  await releaseImages(host.dir, 'vm-b');
  await host.store.collect(soon());
  assert.deepEqual(paths.map(existsSync), [true, true, false, false]);
  assert.deepEqual(leftIn(host.dir), []);
});

test('what a killed import left is never an image, and is collected when its key is free', async (t) => {
  const host = hostOf(t);
  const bytes = content('left ');
  const path = await obtain(host, await host.image('one.img', bytes));
  const [key = ''] = keysOf(host.dir);
  await releaseImages(host.dir, 'vm-1');
  // At every moment: nothing yet, a part of the copy, the whole image without its name.
  const other = key.replace(/^../, (it) => (it === 'ff' ? '00' : 'ff'));
  for (const [name, files] of [
    [`.new-${key}`, { source: bytes.subarray(0, MiB) }],
    [`.new-${other}`, { image: bytes, 'image.json': readFileSync(join(path, '../image.json')) }],
    [`.gone-${other}`, { image: bytes }],
    ['.new-source-3f', { source: bytes.subarray(0, MiB) }],
  ] as const) {
    mkdirSync(join(host.dir, name));
    for (const [file, part] of Object.entries(files))
      writeFileSync(join(host.dir, name, file), part);
  }
  {
    await using _ = await lockFile(join(host.dir, 'locks', `image-${key.slice(0, 2)}`), soon());
    await using _source = await lockFile(join(host.dir, 'locks', 'source-3f'), soon());
    await host.store.collect(soon());
    const running = [`.new-${key}`, '.new-source-3f'];
    assert.deepEqual(leftIn(host.dir).toSorted(), running, 'an import that runs is left alone');
  }
  await host.store.collect(soon());
  assert.deepEqual(leftIn(host.dir), []);
  assert.deepEqual(keysOf(host.dir), [key]);
});

test('an import begins anew over the leftovers of its key', async (t) => {
  const host = hostOf(t);
  const request = await host.image('one.img', content('anew '));
  const path = await obtain(host, request);
  const draft = join(host.dir, `.new-${keysOf(host.dir)[0]}`);
  mkdirSync(draft);
  writeFileSync(join(draft, 'source'), 'left');
  truncateSync(join(path, '../image.json'), 0);
  assert.equal(await obtain(host, request), path);
  assert.ok(readFileSync(path).equals(content('anew ')));
  assert.deepEqual(leftIn(host.dir), []);
});

/** Changes one byte, with the times of before. */
function changeSecretly(path: string): void {
  const { atime, mtime } = statSync(path);
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(5) ^ 1, 5);
  writeFileSync(path, bytes);
  utimesSync(path, atime, mtime);
}

const anotherBoot = (path: string): void => writeFileSync(join(path, '../verified'), 'another');

test('V-45: a stored image that is no longer what was stored is imported again, and an intact one is kept', async (t) => {
  const host = hostOf(t);
  const bytes = content('crash ');
  const request = await host.image('one.img', bytes);
  const path = await obtain(host, request);
  const harms: Readonly<Record<string, (path: string) => void>> = {
    'changed in one byte': changeSecretly,
    'cut off': (it) => truncateSync(it, MiB),
    removed: (it) => rmSync(it),
    'changed before the host started again': (it) => {
      changeSecretly(it);
      anotherBoot(it);
    },
  };
  for (const [damage, harm] of Object.entries(harms)) {
    harm(path);
    assert.equal(await obtain(host, request, { lease: damage }), path);
    assert.ok(readFileSync(path).equals(bytes), damage);
    assert.deepEqual(readdirSync(join(path, '../users')), [damage]);
  }
  const { ino } = statSync(path);
  for (const change of [anotherBoot, (it: string): void => utimesSync(it, 1000, 1000)]) {
    change(path);
    const before = readBytes();
    await obtain(host, request);
    assert.ok(readBytes() - before >= 100_000, 'it is read');
    const verified = readFileSync(join(path, '../verified'), 'utf8');
    await obtain(host, request);
    assert.equal(readFileSync(join(path, '../verified'), 'utf8'), verified);
  }
  assert.equal(statSync(path).ino, ino, 'an intact one is kept');
  assert.deepEqual(leftIn(host.dir), []);
});

test('a source that is written to while it is imported is an error, and nothing is stored', async (t) => {
  const host = hostOf(t);
  const request = await host.image('one.img', content('changing '));
  while (Date.now() - statSync(request.file.path).ctimeMs < 3100) await sleep(50);
  await new Checksums(join(host.dir, 'checksums')).of(request.file, 'sha256', soon());
  const [known = ''] = readdirSync(join(host.dir, 'checksums'));
  // As after a write through a mapping, which the times of a file show too late.
  writeFileSync(join(host.dir, 'checksums', known), JSON.stringify({ sha256: 'b'.repeat(64) }));
  await assert.rejects(obtain(host, request), /changed while it was being imported/);
  assert.deepEqual([...keysOf(host.dir), ...leftIn(host.dir)], []);
});

test('a packed file that is written to while it is read for the first time is an error, and nothing is stored', async (t) => {
  const host = hostOf(t);
  const request = await host.image('one.gz', packedNoise(MiB), { format: undefined });
  const options = {
    lease: 'vm-1',
    onProgress: ({ step }: ImportProgress) => {
      if (step === 'unpacking') utimesSync(request.file.path, 1000, 1000);
    },
  };
  await assert.rejects(host.store.obtain(request, options, soon()), /changed while it was being/);
  assert.deepEqual([...keysOf(host.dir), ...leftIn(host.dir)], []);
});

test('a cancelled import ends within a second and leaves nothing', async (t) => {
  const host = hostOf(t);
  const stop = new AbortController();
  const request = await host.image('large.img', Buffer.alloc(1));
  truncateSync(request.file.path, 2 ** 43);
  const large = await host.image('large.img', Buffer.alloc(1));
  const running = host.store.obtain(large, { lease: 'vm-1', onProgress: silent }, stop);
  running.catch(silent);
  await sleep(300);
  const began = performance.now();
  stop.abort();
  await assert.rejects(running);
  assert.ok(performance.now() - began < patient(1000));
  assert.deepEqual([...keysOf(host.dir), ...leftIn(host.dir)], []);
});

test('a task that waits for the import of another one can be cancelled', async (t) => {
  const host = hostOf(t);
  const request = await host.image('one.img', content('wait '));
  await obtain(host, request);
  const lock = join(host.dir, 'locks', `image-${keysOf(host.dir)[0]?.slice(0, 2)}`);
  await using _ = await lockFile(lock, soon());
  const waiting = { signal: AbortSignal.timeout(1000) };
  const options = { lease: 'vm-2', onProgress: silent };
  await assert.rejects(
    host.store.obtain(request, options, waiting),
    /(importing|reading) .*one\.img/,
  );
});

test('what is not an image of the stated format, or is too large, is refused by the name of its file', async (t) => {
  const host = hostOf(t);
  const cases = [
    [
      await host.image('flat', Buffer.from('# Disk DescriptorFile\nversion=1\n'), {
        format: 'vmdk',
      }),
      /flat is refused as vmdk: it is a list of other files/,
    ],
    [
      await host.image('luks', Buffer.from('LUKS\xba\xbe', 'latin1'), { format: undefined }),
      /luks is refused: it is LUKS/,
    ],
    [
      await host.image('large', content('large '), { maxVirtualBytes: MiB }),
      /large is a disk of 3145728 bytes, more than the 1048576/,
    ],
    [
      await host.image('disk.vmdk', vmdk(), { format: undefined }),
      /install the package qemu-utils/,
    ],
  ] as const;
  for (const [request, text] of cases) {
    await assert.rejects(obtain(host, request), (error: Error) => {
      assert.match(error.message, text);
      assert.ok(!error.message.includes(host.dir));
      return true;
    });
  }
  assert.deepEqual([...keysOf(host.dir), ...leftIn(host.dir)], []);
});

test('what is in a compressed file is stored, with its progress, and is an image of its own', async (t) => {
  const host = hostOf(t);
  // 1.5 GiB in 1.5 MiB: it takes long enough for a few reports.
  const zeros = gzipSync(Buffer.alloc(64 * MiB));
  const packed = Buffer.concat([gzipSync(content('packed ')), ...new Array(24).fill(zeros)]);
  const request = await host.image('disk.gz', packed, { format: undefined });
  const seen: ImportProgress[] = [];
  const path = await obtain(host, request, { seen });
  assert.equal(statSync(path).size, 3 * MiB + 24 * 64 * MiB);
  assert.ok(statSync(path).blocks * 512 < MiB, 'holes are kept');
  const percents = seen.filter(({ step }) => step === 'unpacking').map(({ percent }) => percent);
  assert.equal(percents[0], 0);
  assert.ok(percents.length > 2 && (percents.at(-1) ?? 0) > 50, percents.join());
  assert.deepEqual(
    percents,
    percents.toSorted((a, b) => a - b),
  );
  const { source } = JSON.parse(readFileSync(join(path, '../image.json'), 'utf8'));
  assert.equal(source.sha256, createHash('sha256').update(packed).digest('hex'));
});

test('what is in a compressed file passes the same gate, and the limit of its size', async (t) => {
  const host = hostOf(t);
  const backed = Buffer.alloc(64 * 1024);
  const header = [
    0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 11, 0, 0, 0, 16,
  ];
  backed.set(header);
  backed.write('/etc/shadow', 256);
  const cases = [
    [
      await host.image('a.gz', gzipSync(backed), { format: undefined }),
      /a\.gz is refused: .*backing.*; of an image that you trust, .*qemu-img convert/,
    ],
    [
      await host.image('b.gz', gzipSync(Buffer.from('LUKS\xba\xbe', 'latin1')), {
        format: undefined,
      }),
      /b\.gz is refused: it is LUKS/,
    ],
    [
      await host.image('c.gz', gzipSync(content('raw ')), { format: 'qcow2' }),
      /contains a disk that is raw, not qcow2/,
    ],
    [
      await host.image('d.gz', gzipSync(content('raw ')), { maxVirtualBytes: MiB }),
      /is a disk of 3145728 bytes, more than the 1048576/,
    ],
    [
      await host.image('e.gz', gzipSync(Buffer.alloc(80 * MiB)), { maxVirtualBytes: MiB }),
      /the disk in it is larger/,
    ],
    [
      await host.image('f.gz', gzipSync(content('cut ')).subarray(0, -9), { format: undefined }),
      /damaged or not complete/,
    ],
    [await host.image('g.gz', gzipSync(content('raw ')), { member: 'a' }), /it is no archive/],
    [
      await host.image('h.gz', gzipSync(content('raw ')), { format: 'vmdk' }),
      /contains a disk that is raw, not vmdk/,
    ],
    [
      await host.image('i.gz', gzipSync('<!DOCTYPE html>\n<html>'), { format: undefined }),
      /i\.gz is refused: it is an HTML page/,
    ],
    [
      await host.image('j.gz', gzipSync(Buffer.from('04224d18', 'hex')), { format: 'raw' }),
      /j\.gz is refused: it is lz4-compressed/,
    ],
  ] as const;
  for (const [request, text] of cases) {
    await assert.rejects(obtain(host, request), (error: Error) => {
      assert.match(error.message, text);
      assert.ok(!error.message.includes(host.dir));
      return 'code' in error && error.code !== 'io';
    });
  }
  assert.deepEqual([...keysOf(host.dir), ...leftIn(host.dir)], []);
});

test('the checksum of content does not depend on which zeros are holes, and finds content that moved', async (t) => {
  const dir = tmpDir(t);
  const sum = async (name: string, make: (path: string) => void): Promise<string> => {
    const path = join(dir, name);
    make(path);
    const file = await openAllowed(path, { trusted: [dir], task: [], relativeTo: [] }, soon());
    const [hex = ''] = await digest(
      file.fd,
      { what: 'reading', algorithms: ['sha256'], holes: 'skipped' },
      soon(),
    );
    closeFd(file.fd);
    return hex;
  };
  const bytes = content('holes ');
  const full = await sum('full', (path) => writeFileSync(path, bytes));
  const sparse = await sum('sparse', (path) => {
    writeFileSync(path, bytes.subarray(0, 100_000));
    truncateSync(path, bytes.length - 70_000);
    appendFileSync(path, bytes.subarray(-70_000));
  });
  assert.equal(sparse, full);
  const moved = Buffer.concat([Buffer.alloc(65_536), bytes.subarray(0, -65_536)]);
  assert.notEqual(await sum('moved', (path) => writeFileSync(path, moved)), full);
});
