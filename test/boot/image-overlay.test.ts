import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { openImage } from '../../src/image/open-image.ts';
import { createOverlay } from '../../src/image/overlay.ts';
import { patient } from '../support/patience.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const MiB = 2 ** 20;
const TiB = 2 ** 40;
const soon = (): { signal: AbortSignal } => ({ signal: AbortSignal.timeout(patient(20_000)) });
const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

function tools(t: TestContext): boolean {
  const found = findProgram('qemu-img') !== undefined && findProgram('qemu-io') !== undefined;
  return requireOrSkip(t, found, 'qemu-img and qemu-io are not installed');
}

async function writeOverlay(
  path: string,
  base: { path: string; format: 'raw' | 'qcow2'; virtualBytes: number },
  virtualBytes: number,
): Promise<void> {
  const fd = openSync(path, 'wx+');
  try {
    await createOverlay({ fd, base, virtualBytes });
  } finally {
    closeSync(fd);
  }
}

interface Info {
  readonly 'virtual-size': number;
  readonly format: string;
  readonly 'backing-filename': string;
  readonly 'backing-filename-format': string;
  readonly 'cluster-size': number;
  readonly 'format-specific': {
    readonly data: { readonly compat: string; readonly 'refcount-bits': number };
  };
}

const info = (path: string): Info => JSON.parse(run('qemu-img', 'info', '--output=json', path));

for (const format of ['raw', 'qcow2'] as const) {
  test(`V-36 D1 D2 D3: an overlay of a ${format} base has the asked size and the base's format`, async (t) => {
    if (!tools(t)) return;
    const dir = tmpDir(t);
    const [basePath, overlayPath] = [join(dir, 'base'), join(dir, 'overlay')];
    run('qemu-img', 'create', '-q', '-f', format, basePath, '4M');
    run('qemu-io', '-f', format, '-c', 'write -P 0xab 1M 64k', basePath);
    using base = await openImage(
      basePath,
      { trusted: [dir], task: [], relativeTo: [] },
      { maxVirtualBytes: 16 * MiB },
      soon(),
    );
    await writeOverlay(overlayPath, base, 10 * MiB);
    assert.match(run('qemu-img', 'check', overlayPath), /No errors were found/);
    const seen = info(overlayPath);
    assert.equal(seen.format, 'qcow2');
    assert.equal(seen['virtual-size'], 10 * MiB);
    assert.equal(seen['backing-filename'], basePath);
    assert.equal(seen['backing-filename-format'], format);
    assert.equal(seen['cluster-size'], 65536);
    assert.equal(seen['format-specific'].data.compat, '1.1');
    assert.equal(seen['format-specific'].data['refcount-bits'], 16);
  });

  test(`V-36 D5: what is written through an overlay of a ${format} base stays out of the base`, async (t) => {
    if (!tools(t)) return;
    const dir = tmpDir(t);
    const [basePath, overlayPath] = [join(dir, 'base'), join(dir, 'overlay')];
    run('qemu-img', 'create', '-q', '-f', format, basePath, '4M');
    run('qemu-io', '-f', format, '-c', 'write -P 0xab 1M 64k', basePath);
    const before = run('sha256sum', basePath);
    await writeOverlay(overlayPath, { path: basePath, format, virtualBytes: 4 * MiB }, 10 * MiB);
    const script = [
      'read -P 0xab 1M 64k',
      'read -P 0 0 1M',
      'write -P 0xcd 1M 4k',
      'write -P 0xef 9M 1M',
      'read -P 0xcd 1M 4k',
      'read -P 0xab 1028k 60k',
      'read -P 0 5M 4M',
      'read -P 0xef 9M 1M',
    ].flatMap((line) => ['-c', line]);
    const said = run('qemu-io', '-f', 'qcow2', ...script, overlayPath);
    assert.doesNotMatch(said, /verification failed/);
    assert.match(run('qemu-img', 'check', overlayPath), /No errors were found/);
    assert.equal(run('sha256sum', basePath), before);
  });
}

test('V-36: property: overlays of any size from 1 MiB to 64 TiB are consistent and writable at their end', async (t) => {
  if (!tools(t)) return;
  const dir = tmpDir(t);
  const basePath = join(dir, 'base');
  writeFileSync(basePath, '');
  truncateSync(basePath, MiB);
  let count = 0;
  const check = async (virtualBytes: number): Promise<void> => {
    count += 1;
    const path = join(dir, `overlay-${count}`);
    await writeOverlay(path, { path: basePath, format: 'raw', virtualBytes: MiB }, virtualBytes);
    const rounded = Math.ceil(virtualBytes / 512) * 512;
    assert.equal(info(path)['virtual-size'], rounded);
    run('qemu-img', 'check', path);
    run('qemu-io', '-f', 'qcow2', '-c', `write -P 7 ${rounded - 512} 512`, path);
    assert.match(run('qemu-img', 'check', path), /No errors were found/);
    assert.ok(statSync(path).blocks * 512 < 2 * MiB);
  };
  const edges = [MiB, MiB + 1, 512 * MiB, 512 * MiB + 1, 16 * TiB - 1, 16 * TiB, 64 * TiB];
  for (const edge of edges) await check(edge);
  const sizes = fc.oneof(
    fc.integer({ min: MiB, max: 64 * MiB }),
    fc.double({ min: Math.log2(MiB), max: 44, noNaN: true }).map((log) => Math.floor(2 ** log)),
  );
  await fc.assert(fc.asyncProperty(sizes, check), { numRuns: 25 });
});

test('V-37: an overlay smaller than its base is refused, and so is what qcow2 can not hold', async (t) => {
  const dir = tmpDir(t);
  const base = { path: '/images/base', format: 'raw', virtualBytes: 10 * MiB } as const;
  const make = (name: string, change: Partial<typeof base> | { path: string }, bytes: number) =>
    writeOverlay(join(dir, name), { ...base, ...change }, bytes);
  await assert.rejects(make('small', {}, 10 * MiB - 512), {
    code: 'refused',
    message: /does not fit a disk/,
  });
  await assert.rejects(make('large', {}, 4 * 1024 * TiB), {
    code: 'refused',
    message: /more than qcow2 can hold/,
  });
  await assert.rejects(make('relative', { path: 'base' }, 20 * MiB), { code: 'refused' });
  await assert.rejects(make('long', { path: `/${'x'.repeat(1023)}` }, 20 * MiB), {
    code: 'refused',
  });
  const used = join(dir, 'used');
  writeFileSync(used, 'x');
  const fd = openSync(used, 'r+');
  await assert.rejects(createOverlay({ fd, base, virtualBytes: 20 * MiB }), { code: 'io' });
  closeSync(fd);
});

test('V-36: the longest base name that QEMU takes', async (t) => {
  if (!tools(t)) return;
  const dir = tmpDir(t);
  const longest = `/${'x'.repeat(200)}`.repeat(6).slice(0, 1023);
  const overlay = join(dir, 'overlay');
  await writeOverlay(overlay, { path: longest, format: 'qcow2', virtualBytes: MiB }, MiB);
  assert.equal(info(overlay)['backing-filename'], longest);
});
