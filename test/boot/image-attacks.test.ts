import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { copyImage, type ImageRoots } from '../../src/image/index.ts';
import { type ImageFormat, openImage } from '../../src/image/open-image.ts';
import { createOverlay } from '../../src/image/overlay.ts';
import { patient } from '../support/patience.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

const MiB = 2 ** 20;
const canary = 'CANARY-of-the-host\n'.repeat(4000);
const maxVirtualBytes = 64 * MiB;
const run = (program: string, ...args: string[]): string =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

interface Host {
  readonly secret: string;
  readonly evil: string;
  readonly dir: string;
  readonly roots: ImageRoots;
}

/** A secret outside, and a task directory in which anything may lie under the name evil.img. */
function hostOf(t: TestContext): Host | undefined {
  if (!requireOrSkip(t, findProgram('qemu-img') !== undefined, 'qemu-img is not installed')) {
    return undefined;
  }
  const dir = tmpDir(t);
  mkdirSync(join(dir, 'task'));
  const secret = join(dir, 'secret');
  writeFileSync(secret, canary);
  const task = join(dir, 'task');
  const roots = { trusted: [], task: [task], relativeTo: [task] };
  return { secret, evil: join(task, 'evil.img'), dir, roots };
}

/** What somebody who lets QEMU guess would put onto the guest's disk. */
function naively({ dir, evil }: Host): string {
  const out = join(dir, 'naive.raw');
  run('qemu-img', 'convert', '-O', 'raw', evil, out);
  return readFileSync(out, 'latin1');
}

/** What a guest sees on the two kinds of disk we make; throws where the image is refused. */
async function guestDisks(
  { dir, evil, roots }: Host,
  format?: ImageFormat,
): Promise<{ readonly overlay: string; readonly copy: string; readonly format: ImageFormat }> {
  const waiting = { signal: AbortSignal.timeout(patient(20_000)) };
  using image = await openImage(evil, roots, { maxVirtualBytes, format }, waiting);
  const [overlay, copy] = [join(dir, 'overlay'), join(dir, 'copy')];
  const overlayFd = openSync(overlay, 'wx+');
  const copyFd = openSync(copy, 'wx+');
  try {
    await createOverlay({ fd: overlayFd, base: image, virtualBytes: image.virtualBytes });
    await copyImage(image, copyFd, waiting);
  } finally {
    closeSync(overlayFd);
    closeSync(copyFd);
  }
  const asGuest = (path: string, stated: string): string => {
    run('qemu-img', 'convert', '-f', stated, '-O', 'raw', path, `${path}.seen`);
    return readFileSync(`${path}.seen`, 'latin1');
  };
  return {
    overlay: asGuest(overlay, 'qcow2'),
    copy: asGuest(copy, image.format),
    format: image.format,
  };
}

test('V-34 D41: attack 1: a qcow2 whose backing file is a host file', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', host.secret, '-F', 'raw', host.evil);
  assert.match(naively(host), /CANARY/, 'the attack works where nobody looks');
  await assert.rejects(guestDisks(host), { code: 'refused', message: /names a backing file/ });
  await assert.rejects(guestDisks(host, 'qcow2'), { code: 'refused' });
});

test('V-34: attack 1: the same without a stated format, in qcow version 2', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  // qemu-img no longer makes such images, so the name is put into the header by hand.
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', host.evil, '1M');
  const image = readFileSync(host.evil);
  image.writeBigUInt64BE(512n, 8);
  image.writeUInt32BE(host.secret.length, 16);
  image.write(host.secret, 512);
  writeFileSync(host.evil, image);
  assert.match(naively(host), /CANARY/, 'the attack works where nobody looks');
  await assert.rejects(guestDisks(host), { code: 'refused', message: /names a backing file/ });
});

test('V-34: attack 2: a qcow2 whose data lies in a host file', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  const options = `data_file=${host.secret},data_file_raw=on`;
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', options, host.evil, '1M');
  writeFileSync(host.secret, canary.padEnd(MiB, '\0'));
  assert.match(naively(host), /CANARY/, 'the attack works where nobody looks');
  await assert.rejects(guestDisks(host), { code: 'refused', message: /data in another file/ });
});

test('V-34: attack 3: json references that act at a mere query for information', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  const file = { driver: 'file', filename: host.secret };
  const reference = `json:${JSON.stringify({ driver: 'raw', file })}`;
  run(
    'qemu-img',
    'create',
    '-q',
    '-f',
    'qcow2',
    '-u',
    '-b',
    reference,
    '-F',
    'raw',
    host.evil,
    '1M',
  );
  assert.match(naively(host), /CANARY/, 'the attack works where nobody looks');
  await assert.rejects(guestDisks(host), { code: 'refused', message: /names a backing file/ });
  // The file's name itself as a reference: to us it is a name and nothing else.
  const named = { ...host, evil: join(host.dir, 'task', 'nbd:localhost:1') };
  writeFileSync(named.evil, 'harmless'.repeat(64));
  const { overlay } = await guestDisks(named);
  assert.match(overlay, /harmless/);
});

test('V-34: attack 4: a VMDK that describes a host file as its extent', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  const sectors = Math.floor(statSync(host.secret).size / 512);
  const descriptor = [
    '# Disk DescriptorFile',
    'version=1',
    'CID=fffffffe',
    'parentCID=ffffffff',
    'createType="monolithicFlat"',
    `RW ${sectors} FLAT "${host.secret}" 0`,
    'ddb.adapterType = "ide"',
    '',
  ].join('\n');
  writeFileSync(host.evil, descriptor);
  assert.match(naively(host), /CANARY/, 'the attack works where nobody looks');
  await assert.rejects(guestDisks(host), { code: 'refused', message: /vmdk/ });
  writeFileSync(host.evil, descriptor.replace('# Disk DescriptorFile', '# my holiday pictures'));
  assert.match(naively(host), /CANARY/, 'QEMU needs no first line');
  await assert.rejects(guestDisks(host), { code: 'refused', message: /vmdk/ });
  // Stated raw it is a disk with a text on it.
  const disks = await guestDisks(host, 'raw');
  assert.doesNotMatch(disks.overlay + disks.copy, /CANARY/);
  assert.match(disks.overlay, /holiday/);
});

test('V-34: attack 4: formats that may have parents or extents are refused by name', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  for (const format of ['vmdk', 'vhdx', 'vpc', 'vdi', 'qed', 'parallels']) {
    run('qemu-img', 'create', '-q', '-f', format, host.evil, '1M');
    await assert.rejects(guestDisks(host), { code: 'refused', message: new RegExp(format) });
  }
});

test('V-34: attack 5: a guest turns its raw disk into a qcow2 that names a host file', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  writeFileSync(host.evil, Buffer.alloc(2 * MiB, 'raw disk '));
  const first = await guestDisks(host);
  assert.equal(first.format, 'raw');
  const header = join(host.dir, 'header');
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', host.secret, '-F', 'raw', header);
  copyFileSync(header, host.evil);
  assert.match(naively(host), /CANARY/, 'the attack works where nobody looks');
  for (const used of ['overlay', 'overlay.seen', 'copy', 'copy.seen']) {
    run('rm', '-f', join(host.dir, used));
  }
  // The format is remembered from the first start and stated from then on.
  const again = await guestDisks(host, first.format);
  assert.equal(again.format, 'raw');
  assert.match(again.overlay, /^QFI/, 'the guest gets back its own bytes');
  assert.match(again.copy, /^QFI/);
  assert.doesNotMatch(again.overlay + again.copy, /CANARY/);
});

test('V-34 V-36: attack 5: the overlay has the format raw for a raw base, so that QEMU does not guess', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  run('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', host.secret, '-F', 'raw', host.evil);
  await guestDisks(host, 'raw');
  const chain = JSON.parse(
    run('qemu-img', 'info', '--backing-chain', '--output=json', join(host.dir, 'overlay')),
  );
  assert.deepEqual(
    chain.map((it: { format: string }) => it.format),
    ['qcow2', 'raw'],
  );
  assert.equal(chain[1]['backing-filename'], undefined);
});

test('V-37 D29: attack 6: eight TiB in 320 KiB', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  run('qemu-img', 'create', '-q', '-f', 'qcow2', host.evil, '8T');
  assert.ok(statSync(host.evil).size < MiB);
  await assert.rejects(guestDisks(host), {
    code: 'refused',
    message: /8796093022208 bytes, more than the 67108864/,
  });
});

test('V-34: attack 6: internal snapshots and encryption', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  run('qemu-img', 'create', '-q', '-f', 'qcow2', host.evil, '1M');
  run('qemu-img', 'snapshot', '-c', 'one', host.evil);
  await assert.rejects(guestDisks(host), { code: 'refused', message: /snapshots/ });
  const secret = ['--object', 'secret,id=s,data=x'];
  const options = ['-o', 'encrypt.format=aes,encrypt.key-secret=s'];
  run('qemu-img', 'create', '-q', ...secret, '-f', 'qcow2', ...options, host.evil, '1M');
  await assert.rejects(guestDisks(host), { code: 'refused', message: /encrypt/ });
});

const honest: Readonly<Record<string, readonly string[]>> = {
  'as qemu-img makes it': [],
  'version 2': ['-o', 'compat=0.10'],
  'clusters of 512 bytes': ['-o', 'cluster_size=512'],
  'clusters of 2 MiB': ['-o', 'cluster_size=2M'],
  'zstd and extended L2': ['-o', 'compression_type=zstd,extended_l2=on'],
  'preallocated metadata': ['-o', 'preallocation=metadata'],
  'lazy refcounts of one bit': ['-o', 'lazy_refcounts=on,refcount_bits=1'],
};
for (const [name, options] of Object.entries(honest)) {
  test(`V-35: an honest qcow2 passes: ${name}`, async (t) => {
    const host = hostOf(t);
    if (host === undefined) return;
    const raw = join(host.dir, 'honest.raw');
    writeFileSync(raw, Buffer.alloc(3 * MiB, 'honest bytes '));
    run('qemu-img', 'create', '-q', '-f', 'qcow2', ...options, host.evil, '3M');
    run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'qcow2', raw, host.evil);
    const disks = await guestDisks(host);
    assert.equal(disks.format, 'qcow2');
    assert.equal(disks.overlay, readFileSync(raw, 'latin1'));
    assert.equal(disks.copy, readFileSync(raw, 'latin1'));
  });
}

test('V-35: an honest qcow2 passes: compressed, with bitmaps, grown and shrunk', async (t) => {
  const host = hostOf(t);
  if (host === undefined) return;
  const raw = join(host.dir, 'honest.raw');
  writeFileSync(raw, Buffer.alloc(3 * MiB, 'honest bytes '));
  run('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, host.evil);
  run('qemu-img', 'bitmap', '--add', host.evil, 'b0');
  run('qemu-img', 'resize', '-q', '--shrink', host.evil, '2M');
  const disks = await guestDisks(host);
  assert.equal(disks.overlay.length, 2 * MiB);
  assert.equal(disks.copy, readFileSync(raw, 'latin1').slice(0, 2 * MiB));
});
