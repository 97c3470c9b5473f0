import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type DiskSpec, primaryDisk } from '#spec';
import type { Domain } from '#vm';
import type { Guest } from '../../scripts/guests/images.ts';
import { sectorImage } from '../support/images.ts';
import { groundFor, guestOrSkip, guestSpec, powerOff, told } from '../support/live-vm.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

const MiB = 1024 * 1024;

/** Reports what the second disk begins with, and leaves its own text there. */
const script = `#!/bin/sh
echo "FOUND [$(head -c 5 /dev/vdb | tr -d '\\0')] $(cat /sys/block/vdb/size) sectors" > /dev/console
printf %s hello | dd of=/dev/vdb conv=fsync 2> /dev/null
echo "BEGINS [$(head -c 5 /dev/vdb)]" > /dev/console
`;

function inVolume(
  hostPath: string,
  changes: Partial<DiskSpec> & { readonly file?: string } = {},
): DiskSpec {
  const { source: _, ...disk } = primaryDisk({ image: '', thin: false });
  const { file, ...others } = changes;
  const place = { kind: 'volume', hostPath, readOnly: false } as const;
  return {
    ...disk,
    block: 2,
    name: 'vdb',
    primary: false,
    place: file === undefined ? place : { ...place, file },
    ...others,
  };
}

/** One life of a VM with this second disk: what its guest reported of it. */
async function live(ground: VmGround, guest: Guest, disk: DiskSpec, name: string): Promise<string> {
  const pipes = ground.pipes(name);
  const log = ground.read(pipes.stdoutPath);
  const virtualizer = ground.virtualizer();
  const base = guestSpec(ground, guest, {});
  const spec = ground.spec(0, {
    ...base,
    name,
    ...pipes,
    disks: [...base.disks, disk],
    guest: { ...base.guest, userData: { kind: 'inline', text: script } },
  });
  const domain = await virtualizer.createDomain(spec, soon(60_000));
  const text = await told(log, /BEGINS .*[\s\S]*TINY-READY|TINY-READY[\s\S]*BEGINS .*\n/, 120_000);
  await powerOff(virtualizer, domain);
  await virtualizer.destroyDomain(name);
  return /FOUND .*/.exec(text)?.[0].trim() ?? text;
}

const kept = [
  ['a qcow2 file', {}, 'vdb.qcow2'],
  [
    'a raw file of the name in the job',
    { format: 'raw', file: 'data.img', sparse: false },
    'data.img',
  ],
] as const;

for (const [title, changes, file] of kept) {
  test(`V-52: a disk in a volume is ${title}, and outlives its VM with its content`, async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await using ground = groundFor(guest);
    const volume = tmpDir(t);
    const disk = inVolume(volume, { sizeBytes: 8 * MiB, ...changes });
    assert.equal(await live(ground, guest, disk, 'vm-0'), 'FOUND [] 16384 sectors');
    assert.deepEqual(readdirSync(volume), [file]);
    const larger = { ...disk, sizeBytes: 16 * MiB };
    assert.equal(await live(ground, guest, larger, 'vm-1'), 'FOUND [hello] 32768 sectors');
    assert.deepEqual(readdirSync(volume), [file]);
    const { size, blocks } = statSync(join(volume, file));
    assert.ok('sparse' in changes ? blocks * 512 >= size : blocks * 512 < 16 * MiB);
  });
}

/** A block device of this many MiB; removed at the end of the test. */
function loopDevice(t: TestContext, mib: number): string {
  const file = join(tmpDir(t), 'device');
  writeFileSync(file, '');
  truncateSync(file, mib * MiB);
  const device = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
  t.after(() => execFileSync('losetup', ['--detach', device]));
  return device;
}

for (const [packing, pack] of [
  ['its image', (bytes: Buffer) => bytes],
  ['its compressed image', (bytes: Buffer) => gzipSync(bytes)],
] as const) {
  test(`V-48 V-49 D30: a block device is written from ${packing} once, and keeps what the guest writes`, async (t) => {
    const guest = await guestOrSkip(t, 'tiny');
    if (guest === undefined) return;
    await using ground = groundFor(guest);
    const device = loopDevice(t, 8);
    const image = join(ground.taskDir, 'local', 'data.img');
    mkdirSync(join(ground.taskDir, 'local'), { recursive: true });
    writeFileSync(image, pack(Buffer.concat([Buffer.from('image'), Buffer.alloc(2 * MiB)])));
    const disk = inVolume(device, { source: { kind: 'image', image } });
    assert.equal(await live(ground, guest, disk, 'vm-0'), 'FOUND [image] 16384 sectors');
    assert.equal(await live(ground, guest, disk, 'vm-1'), 'FOUND [hello] 16384 sectors');
  });
}

test('V-80: the firmware of a device is chosen by what was written to it, else by its image', async (t) => {
  if (!canRunVms(t)) return;
  if (!requireOrSkip(t, existsSync('/usr/share/OVMF/OVMF_VARS_4M.fd'), 'needs ovmf')) return;
  await using ground = VmGround.open();
  const [local, device] = [join(ground.taskDir, 'local'), loopDevice(t, 8)];
  mkdirSync(local, { recursive: true });
  const uefi = Buffer.alloc(MiB);
  uefi.write('EFI PART', 512);
  writeFileSync(join(local, 'uefi.img'), uefi);
  const virtualizer = ground.virtualizer();
  const hasVariables = async (image: string | undefined): Promise<boolean> => {
    const source = image === undefined ? {} : { source: { kind: 'image', image } as const };
    const disks = [inVolume(device, { block: 1, name: 'vda', primary: true, ...source })];
    await virtualizer.createDomain(ground.spec(0, { disks, firmware: 'auto' }), soon());
    const has = existsSync(ground.paths().firmwareVars);
    await virtualizer.destroyDomain('vm-0');
    return has;
  };
  assert.equal(await hasVariables(undefined), false, 'blank');
  assert.equal(await hasVariables('local/uefi.img'), true, 'to be written');
  assert.equal(await hasVariables(sectorImage(0)), true, 'written, whatever the job names');
  assert.equal(await hasVariables(undefined), true, 'written');
});

async function problemsOf(ground: VmGround, disk: DiskSpec): Promise<readonly string[]> {
  const spec = ground.spec(0);
  return ground.virtualizer().problemsOf({ ...spec, disks: [...spec.disks, disk] }, soon());
}

test('V-52: what can not be a disk of a volume is named', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const volume = tmpDir(t);
  const device = loopDevice(t, 8);
  const image = sectorImage(0);
  writeFileSync(join(volume, 'b.raw'), Buffer.alloc(MiB));
  writeFileSync(join(ground.taskDir, 'large'), '');
  truncateSync(join(ground.taskDir, 'large'), 16 * MiB);
  execFileSync('ln', [join(volume, 'b.raw'), join(volume, 'c.raw')]);
  writeFileSync(join(volume, 'g.disk'), Buffer.alloc(MiB));
  execFileSync('ln', ['-s', '/etc/passwd', join(volume, 'd.raw')]);
  execFileSync('mkfifo', [join(volume, 'e.raw')]);
  // Another task that has the volume may write any header into a disk.
  execFileSync('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-F',
    'raw',
    '-b',
    image,
    join(volume, 'f.qcow2'),
    '1M',
  ]);
  const cases: readonly (readonly [DiskSpec, RegExp])[] = [
    [inVolume(volume), /^disk\[2\]\.size is required for a disk without a source$/],
    [
      inVolume(volume, { chained: true }),
      /^disk\[2\]\.chained can't be set for a disk that is kept/,
    ],
    [
      inVolume(volume, { file: 'b.raw' }),
      /^disk\[2\]\.volume: .* has 2 names \(hard links\)|^.*b\.raw has 2 names/,
    ],
    [inVolume(volume, { file: 'd.raw' }), /ELOOP|EXDEV|is not a regular file/],
    [inVolume(volume, { file: 'e.raw' }), /is not a regular file/],
    [inVolume(volume, { file: 'f.qcow2' }), /^disk\[2\]\.volume: .*f\.qcow2 is refused: .*backing/],
    [
      inVolume(volume, { file: 'f.qcow2', format: 'raw' }),
      /^disk\[2\]\.format: .*f\.qcow2 is qcow2, not raw: state what it is$/,
    ],
    [
      inVolume(volume, { file: 'g.disk' }),
      /^disk\[2\]\.format: .*g\.disk is raw, not qcow2: state what it is$/,
    ],
    [
      inVolume(volume, { readOnly: true }),
      /^disk\[2\]\.volume: .* does not exist, and a disk that is read-only is not created: put the file there$/,
    ],
    [inVolume(join(volume, 'none')), /^disk\[2\]\.volume: ENOENT/],
    [
      inVolume('/dev/null'),
      /^disk\[2\]\.volume: \/dev\/null is neither a directory nor a block device/,
    ],
    [
      inVolume(device, { file: 'b.raw' }),
      /^disk\[2\]\.file cannot be set when the Nomad volume is a block device$/,
    ],
    [
      inVolume(device, { kind: 'lun', bus: 'scsi' }),
      /^disk\[2\]\.kind: \/dev\/\w+ is a block device that takes no SCSI commands; use kind = "disk"$/,
    ],
    [
      inVolume(device, { readOnly: true, source: { kind: 'image', image } }),
      /^disk\[2\]\.source\.image: the image can not be written to \/dev\/\w+, which is blank, because/,
    ],
    [
      inVolume(device, { source: { kind: 'image', image: 'large' } }),
      /^disk\[2\]\.source\.image: the image has 16777216 bytes, and the volume's device has 8388608$/,
    ],
    [
      inVolume(device, { sizeBytes: MiB, format: 'qcow2', statesSparse: true }),
      /^disk\[2\]\.size cannot be set when the Nomad volume is a block device; disk\[2\]\.sparse cannot be set when .*; disk\[2\]\.format can only be raw/,
    ],
  ];
  for (const [disk, expected] of cases) {
    const problems = await problemsOf(ground, disk);
    assert.equal(problems.length, 1, `${expected}: ${problems.join('\n')}`);
    assert.match(problems[0] ?? '', expected);
  }
  const spec = ground.spec(0);
  const again = { block: 3, name: 'vdc' };
  execFileSync('mkdir', [join(volume, 'sub')]);
  execFileSync('ln', ['-s', volume, join(volume, 'sub/up')]);
  for (const [here, there] of [
    [inVolume(device), inVolume(device, again)],
    [
      inVolume(volume, { file: 'g.raw', sizeBytes: MiB }),
      inVolume(join(volume, 'sub/up'), { file: 'g.raw', sizeBytes: MiB, ...again }),
    ],
  ] as const) {
    const disks = [...spec.disks, here, there];
    assert.deepEqual(await ground.virtualizer().problemsOf({ ...spec, disks }, soon()), [
      'disk[3].volume: is the disk of disk[2].volume as well',
    ]);
  }
});

test('V-52 V-49: a disk that one VM has open is refused to another, which writes nothing to it, and free when that one is gone', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const volume = tmpDir(t);
  const device = loopDevice(t, 8);
  const disk = inVolume(volume, { file: 'data.raw', sizeBytes: 8 * MiB });
  const blank = inVolume(device, { block: 3, name: 'vdc' });
  const virtualizer = ground.virtualizer();
  const start = (name: string, ...disks: readonly DiskSpec[]): Promise<Domain> => {
    const spec = ground.spec(0, { name });
    return virtualizer.createDomain({ ...spec, disks: [...spec.disks, ...disks] }, soon());
  };
  const refused = (name: string, other: DiskSpec): Promise<void> =>
    assert.rejects(start(name, other), {
      recoverable: true,
      message:
        /^disk\[\d\]\.volume: a disk of the VM is in use by another VM or program: .* is locked$/,
    });
  await start('vm-0', disk, blank);
  await refused('vm-1', { ...disk, sizeBytes: 16 * MiB });
  assert.equal(statSync(join(volume, 'data.raw')).size, 8 * MiB);
  await refused('vm-2', { ...blank, source: { kind: 'image', image: sectorImage(0) } });
  execFileSync('cmp', ['-n', String(MiB), device, '/dev/zero']);
  await virtualizer.destroyDomain('vm-0');
  const { state } = await start('vm-1', disk, blank);
  assert.equal(state, 'running');
});

test('V-52 V-43: a disk in a volume that is only read has the size that it has, whatever the job names', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const volume = tmpDir(t);
  writeFileSync(join(volume, 'cd.iso'), Buffer.alloc(MiB));
  const place = { kind: 'volume', hostPath: volume, readOnly: true, file: 'cd.iso' } as const;
  const spec = ground.spec(0);
  const disks = [...spec.disks, inVolume(volume, { place, sizeBytes: 8 * MiB })];
  const domain = await ground.virtualizer().createDomain({ ...spec, disks }, soon());
  assert.equal(domain.attributes['disk.vdb.format'], 'raw');
  assert.equal(domain.attributes['disk.vdb.size'], String(MiB));
  const messages = ground.events.map(({ event }) => event.message);
  assert.ok(
    messages.includes("The disk in the volume keeps its size, which is smaller than the job's"),
    messages.join(),
  );
});
