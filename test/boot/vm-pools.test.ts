import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type DiskSpec, primaryDisk } from '#spec';
import { imageOf } from '../support/disks.ts';
import { tmpDir } from '../support/tmp.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

const MiB = 1024 * 1024;

/** A pool that does not exist yet, on a node that has it and another one. */
function groundWith(t: TestContext): { readonly ground: VmGround; readonly path: string } {
  const root = tmpDir(t);
  const path = join(root, 'pools/fast');
  const pools = [
    { kind: 'directory', name: 'fast', path },
    { kind: 'directory', name: 'slow', path: join(root, 'slow') },
  ] as const;
  return { ground: VmGround.open({ pools: { pools, default: 'fast' } }), path };
}

function inPool(block: number, name: string, changes: Partial<DiskSpec>): DiskSpec {
  const { source: _, ...disk } = primaryDisk({ image: '', thin: false });
  return {
    ...disk,
    block,
    name,
    primary: block === 1,
    place: { kind: 'pool', pool: 'fast' },
    ...changes,
  };
}

test('V-44 V-51: disks in a directory pool are created from its volumes and from images, and removed with the VM', async (t) => {
  if (!canRunVms(t)) return;
  const { ground: opened, path } = groundWith(t);
  await using ground = opened;
  const image = imageOf(ground.spec(0)) ?? '';
  mkdirSync(path, { recursive: true });
  copyFileSync(image, join(path, 'golden.img'));
  const volume = { kind: 'volume', volume: 'golden.img' } as const;
  const disks = [
    inPool(1, 'vda', { source: volume, chained: true, sizeBytes: 64 * MiB }),
    inPool(2, 'vdb', { source: volume, sizeBytes: 32 * MiB }),
    inPool(3, 'vdc', { source: { kind: 'image', image }, chained: true, sizeBytes: 10 * 2 ** 40 }),
    inPool(4, 'vdd', { format: 'raw', sizeBytes: 4 * MiB, sparse: false }),
    inPool(5, 'vde', { sizeBytes: 4 * MiB, place: { kind: 'pool', pool: 'slow' } }),
  ];
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.createDomain(ground.spec(0, { disks }), soon());
  assert.equal(domain.attributes['disk.vda.path'], join(path, 'vms/vm-0_vda.img'));
  assert.deepEqual(readdirSync(join(path, 'vms')).toSorted(), [
    'vm-0_vda.img',
    'vm-0_vdb.img',
    'vm-0_vdc.img',
    'vm-0_vdd.img',
  ]);
  assert.equal(statSync(join(path, 'vms/vm-0_vdb.img')).size, 32 * MiB);
  assert.ok(statSync(join(path, 'vms/vm-0_vdd.img')).blocks * 512 >= 4 * MiB, 'it is allocated');
  assert.equal(statSync(join(path, 'vms')).mode & 0o777, 0o700);
  await virtualizer.destroyDomain('vm-0');
  assert.deepEqual(readdirSync(join(path, 'vms')), []);
  assert.ok(existsSync(join(path, 'golden.img')), 'a volume that others put there is kept');
});

test('V-51 V-99: a start that fails leaves nothing in a pool', async (t) => {
  if (!canRunVms(t)) return;
  const { ground: opened, path } = groundWith(t);
  await using ground = opened;
  const image = imageOf(ground.spec(0)) ?? '';
  const disks = [
    inPool(1, 'vda', { source: { kind: 'image', image }, chained: true }),
    // More than any file system here has.
    inPool(2, 'vdb', { format: 'raw', sizeBytes: 2 ** 50, sparse: false }),
  ];
  const virtualizer = ground.virtualizer();
  const start = virtualizer.createDomain(ground.spec(0, { disks }), soon());
  await assert.rejects(start, /needs \d+ more bytes|creating an empty disk/);
  assert.deepEqual(readdirSync(join(path, 'vms')), []);
});

test('V-33: the disks of other VMs in a pool are closed to jobs, as a volume and as an image', async (t) => {
  if (!canRunVms(t)) return;
  const { ground: opened, path } = groundWith(t);
  await using ground = opened;
  const image = imageOf(ground.spec(0)) ?? '';
  const virtualizer = ground.virtualizer();
  const disks = [inPool(1, 'vda', { source: { kind: 'image', image } })];
  await virtualizer.createDomain(ground.spec(0, { disks }), soon());
  const other = 'vms/vm-0_vda.img';
  const stolen = [
    { kind: 'volume', volume: other },
    { kind: 'volume', volume: `../fast/${other}` },
    { kind: 'image', image: join(path, other) },
  ] as const;
  for (const source of stolen) {
    const spec = ground.spec(0, { name: 'vm-1', disks: [inPool(1, 'vda', { source })] });
    const [problem = ''] = await virtualizer.problemsOf(spec, soon());
    assert.match(problem, /^disk\[1\]\.source\.\w+: .* is not inside the allowed directories/);
  }
});

test('V-44: a pool or a volume that this node does not have is named, with those that there are', async (t) => {
  if (!canRunVms(t)) return;
  const { ground: opened } = groundWith(t);
  await using ground = opened;
  const problemsOf = (disk: DiskSpec) =>
    ground.virtualizer().problemsOf(ground.spec(0, { disks: [disk] }), soon());
  const [unknown] = await problemsOf(inPool(1, 'vda', { place: { kind: 'pool', pool: 'ssd' } }));
  assert.equal(
    unknown,
    'disk[1].pool: there is no storage pool "ssd" on this node; there are: fast, slow',
  );
  const [missing = ''] = await problemsOf(
    inPool(1, 'vda', { source: { kind: 'volume', volume: 'none.img' } }),
  );
  assert.match(missing, /^disk\[1\]\.source\.volume: there is no file none\.img/);
});
