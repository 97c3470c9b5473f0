import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { findByUser, kill } from '#host';
import { patient } from '../support/patience.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { SmallDisk } from '../support/small-disk.ts';
import { tmpDir } from '../support/tmp.ts';
import { eventually } from '../support/vm.ts';

const MiB = 2 ** 20;
const uid = 70_322;
const program = join(import.meta.dirname, '../support/importer.ts');
const soon = (): { readonly signal: AbortSignal } => ({
  signal: AbortSignal.timeout(patient(20_000)),
});

const canImport = (t: TestContext): boolean =>
  requireOrSkip(
    t,
    process.getuid?.() === 0 && findProgram('qemu-img') !== undefined,
    'needs root, and qemu-img',
  );

/** A vmdk, and the content of its disk. */
function vmdkIn(dir: string, mib: number): { readonly path: string; readonly bytes: Buffer } {
  const bytes = Buffer.concat([randomBytes(mib * MiB), Buffer.alloc(8 * MiB)]);
  writeFileSync(join(dir, 'disk.raw'), bytes);
  const path = join(dir, 'disk.vmdk');
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'vmdk', join(dir, 'disk.raw'), path]);
  return { path, bytes };
}

/** A compressed raw image, and its content. */
function gzipIn(dir: string, mib: number): { readonly path: string; readonly bytes: Buffer } {
  const bytes = Buffer.concat([randomBytes(mib * MiB), Buffer.alloc(8 * MiB)]);
  const path = join(dir, 'disk.gz');
  writeFileSync(path, gzipSync(bytes, { level: 1 }));
  return { path, bytes };
}

interface Importer {
  readonly child: ChildProcess;
  begin(): void;
  /** What it printed, or its error. */
  readonly ended: Promise<{ readonly code: number | null; readonly out: string }>;
}

function importer(store: string, path: string, lease: string): Importer {
  const child = spawn(process.execPath, [program, store, path, lease, '', String(uid)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      out += chunk.toString();
    });
  }
  const ended = new Promise<{ code: number | null; out: string }>((resolve) => {
    child.once('close', (code) => resolve({ code, out }));
  });
  return { child, begin: () => void child.stdin.end(), ended };
}

const isKey = (name: string): boolean => /^[0-9a-f]{64}$/.test(name);
const namesIn = (dir: string): readonly string[] => (existsSync(dir) ? readdirSync(dir) : []);

test('design-4: four processes that ask at once make one image, with a lease for each', async (t) => {
  if (!canImport(t)) return;
  const dir = tmpDir(t);
  const { path, bytes } = vmdkIn(dir, 24);
  const store = join(dir, 'images');
  const all = ['vm-1', 'vm-2', 'vm-3', 'vm-4'].map((lease) => importer(store, path, lease));
  for (const one of all) one.begin();
  const results = await Promise.all(all.map(({ ended }) => ended));
  assert.deepEqual(
    results.map(({ code }) => code),
    [0, 0, 0, 0],
    results.map(({ out }) => out).join('\n'),
  );
  const paths = results.map(({ out }) => (JSON.parse(out) as { path: string }).path);
  assert.equal(new Set(paths).size, 1);
  const [image = ''] = paths;
  assert.ok(readFileSync(image).equals(bytes));
  const { uid: owner, mode } = statSync(image);
  assert.deepEqual([owner, mode & 0o777], [0, 0o400]);
  assert.deepEqual(readdirSync(join(image, '../users')).toSorted(), [
    'vm-1',
    'vm-2',
    'vm-3',
    'vm-4',
  ]);
  assert.equal(namesIn(store).filter(isKey).length, 1);
  assert.deepEqual(
    namesIn(store).filter((name) => name.startsWith('.')),
    [],
  );
});

for (const [name, make] of [
  ['a vmdk', vmdkIn],
  ['a compressed image', gzipIn],
] as const) {
  test(`design-4: an import of ${name} that is killed at any moment leaves nothing that is taken for an image`, async (t) => {
    if (!canImport(t)) return;
    const dir = tmpDir(t);
    const { path, bytes } = make(dir, 48);
    const store = join(dir, 'images');
    const draftHas = (file: string) => (): boolean =>
      namesIn(store).some(
        (name) => name.startsWith('.new-') && existsSync(join(store, name, file)),
      );
    const moments: readonly (() => boolean)[] = [
      () => existsSync(join(store, 'locks')),
      draftHas('.'),
      draftHas('source'),
      draftHas('image'),
      draftHas('image.json'),
      draftHas('users'),
      () => namesIn(store).some(isKey),
    ];
    for (const [index, reached] of moments.entries()) {
      const one = importer(store, path, `vm-${index}`);
      one.begin();
      await eventually(() => reached() || one.child.exitCode !== null, `moment ${index}`);
      await sleep(index);
      one.child.kill('SIGKILL');
      await one.ended;
      for (const key of namesIn(store).filter(isKey)) {
        assert.ok(readFileSync(join(store, key, 'image')).equals(bytes), `moment ${index}`);
      }
      // As the removal of its VM does it, whose user the converter has.
      for (const left of await findByUser(uid, soon())) await kill(left, soon());
      if (index < moments.length - 1) {
        for (const key of namesIn(store).filter(isKey))
          execFileSync('rm', ['-r', join(store, key)]);
      }
    }
    const last = importer(store, path, 'vm-last');
    last.begin();
    const { code, out } = await last.ended;
    assert.equal(code, 0, out);
    const { path: image } = JSON.parse(out) as { path: string };
    assert.ok(readFileSync(image).equals(bytes));
    assert.deepEqual(
      namesIn(store).filter((name) => name.startsWith('.')),
      [],
    );
  });
}

test('an image that is too large for the disk when it is unpacked is an error that names it, and leaves the room free', async (t) => {
  if (!canImport(t)) return;
  const dir = tmpDir(t);
  const path = join(dir, 'disk.gz');
  writeFileSync(path, gzipSync(Buffer.alloc(32 * MiB, 'no hole in it'), { level: 1 }));
  await using disk = await SmallDisk.mount('tmpfs', dir);
  const store = join(disk.path, 'images');
  const room = statfsSync(disk.path).bfree;
  const one = importer(store, path, 'vm-1');
  one.begin();
  const { code, out } = await one.ended;
  assert.notEqual(code, 0);
  assert.match(
    out,
    /ImageError: unpacking .*disk\.gz: ENOSPC: no space left on device.*; there is no room left in \S+images/,
  );
  assert.match(out, /code: 'io'/);
  assert.deepEqual(
    namesIn(store).filter((name) => isKey(name) || name.startsWith('.')),
    [],
  );
  assert.ok(
    room - statfsSync(disk.path).bfree < 16,
    'a few pages for the directories of the store',
  );
});

test('an import that fills the disk is an error that names it, and leaves the room free', async (t) => {
  if (!canImport(t)) return;
  const dir = tmpDir(t);
  const { path } = vmdkIn(dir, 10);
  await using disk = await SmallDisk.mount('tmpfs', dir);
  const store = join(disk.path, 'images');
  // The copy of the source fits, and the converted image does not; then not even the copy does.
  for (const filler of [0, 8]) {
    writeFileSync(join(disk.path, 'filler'), Buffer.alloc(filler * MiB));
    const one = importer(store, path, 'vm-1');
    one.begin();
    const { code, out } = await one.ended;
    assert.notEqual(code, 0);
    assert.match(
      out,
      /ImageError: (copying|converting) .*disk\.vmdk.*(No space left on device|ENOSPC).*; there is no room left in \S+images/,
    );
    assert.match(out, /code: 'io'/);
    assert.deepEqual(
      namesIn(store).filter((name) => isKey(name) || name.startsWith('.')),
      [],
    );
  }
});
