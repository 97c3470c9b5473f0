import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { imageOf } from '../support/disks.ts';
import { archive, compress, diskFrom, guestImage, localOf } from '../support/packed.ts';
import { patient } from '../support/patience.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { booted, canRunVms, eventually, soon, VmGround } from '../support/vm.ts';

const MiB = 1024 * 1024;

const canImport = (t: TestContext): boolean =>
  canRunVms(t) && requireOrSkip(t, findProgram('qemu-img') !== undefined, 'needs qemu-img');

const storeOf = (ground: VmGround): string => join(ground.options.dataDir, 'image-store');
const namesIn = (dir: string): readonly string[] => (existsSync(dir) ? readdirSync(dir) : []);
const keysIn = (store: string): readonly string[] =>
  namesIn(store).filter((name) => /^[0-9a-f]{64}$/.test(name));
const draftsIn = (store: string): readonly string[] =>
  namesIn(store).filter((name) => name.startsWith('.'));
/** The steps of imports that a VM has reported. */
const stepsOf = (ground: VmGround, name: string): readonly (string | undefined)[] =>
  ground.events
    .filter((it) => it.name === name && it.event.message === 'Importing the image')
    .map(({ event }) => event.annotations?.step);

const ovf = `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ID="other" href="x"/><File id="file1" href="guest-disk1.vmdk"/></References>
  <DiskSection><Disk diskId="vmdisk1" fileRef="file1"/></DiskSection>
</Envelope>`;

const packings: Readonly<Record<string, (ground: VmGround) => string>> = {
  'a .raw.gz': (ground) => {
    compress(guestImage(ground, 'disk', 'raw'), 'gzip');
    return 'disk';
  },
  'a .qcow2.xz': (ground) => {
    compress(guestImage(ground, 'disk', 'qcow2'), 'xz');
    return 'disk';
  },
  'a .vmdk.bz2': (ground) => {
    compress(guestImage(ground, 'disk', 'vmdk'), 'bzip2');
    return 'disk';
  },
  'a disk.raw in a tar.gz': (ground) => {
    guestImage(ground, 'disk.raw', 'raw');
    compress(archive(ground, 'disk', ['disk.raw']), 'gzip');
    return 'disk';
  },
  'an OVA': (ground) => {
    writeFileSync(join(localOf(ground), 'guest.ovf'), ovf);
    guestImage(ground, 'guest-disk1.vmdk', 'vmdk', ['-o', 'subformat=streamOptimized']);
    archive(ground, 'disk', ['guest.ovf', 'guest-disk1.vmdk']);
    return 'disk';
  },
  'an OCI image layout': (ground) => {
    const local = localOf(ground);
    mkdirSync(join(local, 'blobs/sha256'), { recursive: true });
    renameSync(containerLayer(ground), join(local, 'blobs/sha256/layer'));
    compress(join(local, 'blobs/sha256/layer'), 'gzip');
    writeFileSync(join(local, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    writeFileSync(join(local, 'index.json'), '{"schemaVersion":2,"manifests":[]}');
    archive(ground, 'disk.tar', ['blobs', 'index.json', 'oci-layout']);
    renameSync(join(local, 'disk.tar'), join(local, 'image'));
    return 'image';
  },
  'a docker archive': (ground) => {
    const local = localOf(ground);
    mkdirSync(join(local, 'a1b2'));
    renameSync(containerLayer(ground), join(local, 'a1b2/layer.tar'));
    writeFileSync(join(local, 'manifest.json'), '[{"Layers":["a1b2/layer.tar"]}]');
    archive(ground, 'image', ['a1b2', 'manifest.json']);
    return 'image';
  },
};

/** A layer as KubeVirt's container disks have it: the disk, and other files beside its directory. */
function containerLayer(ground: VmGround): string {
  const local = localOf(ground);
  for (const name of ['disk', 'etc']) mkdirSync(join(local, name));
  guestImage(ground, 'disk/guest.qcow2', 'qcow2');
  writeFileSync(join(local, 'etc/other.img'), Buffer.alloc(MiB));
  return archive(ground, 'layer', ['./disk', './etc']);
}

for (const [name, make] of Object.entries(packings)) {
  test(`V-147: a VM boots from ${name}, which is imported once`, async (t) => {
    if (!canImport(t)) return;
    await using ground = VmGround.open();
    const disks = [diskFrom({ image: `local/${make(ground)}` })];
    const virtualizer = ground.virtualizer();
    await booted(await virtualizer.createDomain(ground.spec(0, { disks }), soon()));
    const steps = stepsOf(ground, 'vm-0');
    assert.match(steps.join(), /^(checking|unpacking)/);
    assert.ok(
      ground.events.some(({ event }) => event.annotations?.image?.match(/\/(disk|image)$/)),
    );
    const stored = keysIn(storeOf(ground));
    assert.equal(stored.length, 1);
    const image = join(storeOf(ground), stored[0] ?? '', 'image');
    const { ino } = statSync(image);
    const other = ground.spec(0, { name: 'vm-1', disks });
    await booted(await virtualizer.createDomain(other, soon()));
    assert.deepEqual(keysIn(storeOf(ground)), stored);
    assert.equal(statSync(image).ino, ino);
    for (const vm of ['vm-0', 'vm-1']) await virtualizer.destroyDomain(vm);
    assert.deepEqual(readdirSync(join(image, '../users')), []);
    assert.deepEqual(draftsIn(storeOf(ground)), []);
  });
}

test('V-147: of an archive with two disks the job chooses one by its name', async (t) => {
  if (!canImport(t)) return;
  await using ground = VmGround.open();
  writeFileSync(join(localOf(ground), 'data.img'), Buffer.alloc(MiB));
  guestImage(ground, 'boot.qcow2', 'qcow2');
  compress(archive(ground, 'disks.tar.zst', ['data.img', 'boot.qcow2']), 'zstd');
  const virtualizer = ground.virtualizer();
  const create = (source: { readonly member?: string; readonly format?: 'raw' }, name = 'vm-0') => {
    const disks = [diskFrom({ image: 'local/disks.tar.zst', ...source })];
    return virtualizer.createDomain(ground.spec(0, { name, disks }), soon());
  };
  const refusals = [
    [{}, /^disk\[1\]\.source\.member: .*more than one disk in it.*\(data\.img, boot\.qcow2\)$/],
    [
      { member: 'root.img' },
      /^disk\[1\]\.source\.member: .*no file root\.img in it \(data\.img, boot\.qcow2\)$/,
    ],
    [
      { member: 'boot.qcow2', format: 'raw' },
      /^disk\[1\]\.source\.image: .*contains a disk that is qcow2, not raw$/,
    ],
  ] as const;
  for (const [source, message] of refusals) {
    await assert.rejects(create(source), { name: 'VmError', code: 'job', message });
    assert.deepEqual([...keysIn(storeOf(ground)), ...draftsIn(storeOf(ground))], []);
  }
  await booted(await create({ member: 'boot.qcow2' }));
  await virtualizer.destroyDomain('vm-0');
});

test('V-147 V-42 V-44: a volume of a pool and a CD-ROM may be compressed', async (t) => {
  if (!canImport(t)) return;
  const pool = join(tmpDir(t), 'pool');
  mkdirSync(pool);
  const pools = [{ kind: 'directory', name: 'fast', path: pool }] as const;
  await using ground = VmGround.open({ pools: { pools, default: 'fast' } });
  const golden = guestImage(ground, 'golden', 'qcow2');
  compress(golden, 'zstd');
  renameSync(golden, join(pool, 'golden'));
  const iso = join(localOf(ground), 'cd.iso');
  writeFileSync(iso, Buffer.alloc(4 * MiB, 'content of the CD'));
  compress(iso, 'xz');
  const place = { kind: 'pool', pool: 'fast' } as const;
  const disks = [
    diskFrom({ image: '' }, { place, source: { kind: 'volume', volume: 'golden' } }),
    diskFrom(
      { image: 'local/cd.iso' },
      { block: 2, name: 'sda', kind: 'cdrom', bus: 'ide', primary: false, readOnly: true },
    ),
  ];
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(0, { disks }), soon());
  await booted(domain);
  assert.equal(keysIn(storeOf(ground)).length, 2);
  const cd = readFileSync(domain.attributes['disk.sda.path'] ?? '');
  assert.ok(cd.equals(Buffer.alloc(4 * MiB, 'content of the CD')));
  await virtualizer.destroyDomain('vm-0');
});

test('V-147: the size that an unpacked image has is compared with that of the job', async (t) => {
  if (!canImport(t)) return;
  await using ground = VmGround.open();
  const path = guestImage(ground, 'disk.gz', 'raw');
  truncateSync(path, 4 * MiB);
  compress(path, 'gzip');
  const create = (sizeBytes: number) => {
    const disks = [diskFrom({ image: 'local/disk.gz' }, { sizeBytes, chained: false })];
    return ground.virtualizer().createDomain(ground.spec(0, { disks }), soon());
  };
  const message = /^disk\[1\]\.size 2 MiB is smaller than the image .*, which has 4 MiB$/;
  await assert.rejects(create(2 * MiB), { code: 'job', message });
  await booted(await create(8 * MiB));
  assert.equal(statSync(ground.paths().disk).size, 8 * MiB);
});

test('V-147: a disk in a Nomad volume is created from an archive once, and kept', async (t) => {
  if (!canImport(t)) return;
  await using ground = VmGround.open();
  guestImage(ground, 'disk.raw', 'raw');
  compress(archive(ground, 'disk', ['disk.raw']), 'xz');
  const volume = tmpDir(t);
  const place = { kind: 'volume', hostPath: volume, readOnly: false } as const;
  const disks = [diskFrom({ image: 'local/disk' }, { place, chained: false })];
  const virtualizer = ground.virtualizer();
  await booted(await virtualizer.createDomain(ground.spec(0, { disks }), soon()));
  await virtualizer.destroyDomain('vm-0');
  assert.deepEqual(readdirSync(volume), ['vda.qcow2']);
  assert.equal(readFileSync(join(volume, 'vda.qcow2')).toString('latin1', 0, 3), 'QFI');
  assert.ok(stepsOf(ground, 'vm-0').length > 0);
  await booted(await virtualizer.createDomain(ground.spec(0, { name: 'vm-1', disks }), soon()));
  assert.deepEqual(stepsOf(ground, 'vm-1'), []);
});

test('V-80: the firmware of an image that has to be unpacked is chosen by its first sectors', async (t) => {
  if (!canRunVms(t)) return;
  const template = '/usr/share/OVMF/OVMF_VARS_4M.fd';
  if (!requireOrSkip(t, existsSync(template), 'needs ovmf')) return;
  await using ground = VmGround.open();
  const disk = Buffer.alloc(MiB);
  disk.write('EFI PART', 512);
  writeFileSync(join(localOf(ground), 'uefi.gz'), gzipSync(disk));
  copyFileSync(imageOf(ground.spec(0)) ?? '', join(localOf(ground), 'bios.gz'));
  compress(join(localOf(ground), 'bios.gz'), 'gzip');
  const virtualizer = ground.virtualizer();
  for (const [name, hasVariables] of [
    ['uefi', true],
    ['bios', false],
  ] as const) {
    const disks = [diskFrom({ image: `local/${name}.gz` })];
    await virtualizer.createDomain(ground.spec(0, { disks, firmware: 'auto' }), soon());
    assert.equal(existsSync(ground.paths().firmwareVars), hasVariables, name);
    await virtualizer.destroyDomain('vm-0');
  }
});

/** What unpacks to more than any test waits for. */
function endless(ground: VmGround): string {
  const zeros = gzipSync(Buffer.alloc(64 * MiB));
  const name = 'endless.gz';
  writeFileSync(join(localOf(ground), name), Buffer.concat(new Array(4096).fill(zeros)));
  return `local/${name}`;
}

test('V-147: while one VM imports its image another one starts and is measured, and the import ends within a second when it is cancelled', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const alone = performance.now();
  await booted(await virtualizer.createDomain(ground.spec(0), soon()));
  const aloneMs = performance.now() - alone;
  await virtualizer.destroyDomain('vm-0');
  const stop = new AbortController();
  const disks = [diskFrom({ image: endless(ground) })];
  let ended = false;
  const slow = virtualizer
    .createDomain(ground.spec(0, { name: 'vm-1', disks }), { signal: stop.signal })
    .finally(() => {
      ended = true;
    });
  slow.catch(() => undefined);
  await eventually(() => draftsIn(storeOf(ground)).length > 0, 'an import');
  const began = performance.now();
  const other = await virtualizer.createDomain(ground.spec(0, { name: 'vm-2' }), soon());
  await booted(other);
  t.diagnostic(`start alone ${aloneMs} ms, during the import ${performance.now() - began} ms`);
  const asked = performance.now();
  for (let times = 0; times < 20; times += 1) {
    const limited = soon(1000);
    assert.deepEqual((await other.usage(limited)).pids, [other.record.pid]);
    assert.equal((await other.figures(limited)).disks.length, 1);
  }
  t.diagnostic(`20 times all figures of a VM in ${performance.now() - asked} ms meanwhile`);
  assert.equal(ended, false, 'the import goes on');
  assert.deepEqual(draftsIn(storeOf(ground)).length, 1);
  const cancelled = performance.now();
  stop.abort();
  await assert.rejects(slow);
  assert.ok(performance.now() - cancelled < patient(1000));
  assert.deepEqual([...keysIn(storeOf(ground)), ...draftsIn(storeOf(ground))], []);
});
