import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { QmpClient } from '#qmp';
import type { DiskSpec } from '#spec';
import { diskOn, imageOf } from '../support/disks.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

const MiB = 1024 * 1024;

/** A further disk of a job, its second block and on. */
function more(block: number, name: string, changes: Partial<DiskSpec>): DiskSpec {
  const { source: _, ...rest } = diskOn('', 8);
  return { ...rest, block, name, primary: false, chained: false, ...changes };
}

test('V-39 V-40 V-42 V-53: disks of every kind and bus, with limits and cache modes, are in the machine', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const image = imageOf(ground.spec(0)) ?? '';
  const source = { kind: 'image', image } as const;
  const disks: readonly DiskSpec[] = [
    more(1, 'vdb', { format: 'raw', cache: 'writethrough', discard: false }),
    diskOn(image, 1),
    more(3, 'sda', { bus: 'scsi', throttle: { iops: 100, bytes: MiB, burstSeconds: 5 } }),
    more(4, 'sdb', { bus: 'sata', kind: 'cdrom', readOnly: true, source, sizeBytes: MiB }),
    more(5, 'sdc', { bus: 'usb', cache: 'unsafe' }),
    more(6, 'sdd', { bus: 'usb', kind: 'cdrom', readOnly: true, source, sizeBytes: MiB }),
    more(7, 'vdc', { readOnly: true, source, sizeBytes: MiB, serial: 'reference' }),
    more(8, 'vdd', { chained: true, source, sizeBytes: 10 * 2 ** 40 }),
    ...Array.from({ length: 9 }, (_, index) => more(9 + index, `vd${'efghijklm'[index]}`, {})),
  ];
  const starter = await ground.starter(ground.spec(0, { disks }));
  const record = await starter.create();
  await starter.kill();
  const paths = ground.paths();
  {
    await using client = await QmpClient.connect(paths.qmp, soon());
    const nodes = await client.execute('query-named-block-nodes', { flat: true }, soon());
    const named = new Set(nodes.map((node) => node['node-name']));
    for (const id of ['disk', 'base', 'disk-1', 'disk-2-throttle', 'disk-7', 'base-7', 'disk-16'])
      assert.ok(named.has(id), `${id} of ${[...named].join(' ')}`);
  }
  const virtualizer = ground.virtualizer();
  const domain = await virtualizer.recoverDomain(record, ground.spec(0), soon());
  assert.equal(domain?.attributes.disk, paths.disk);
  assert.equal(domain?.attributes['disk.vda.cache'], 'writeback');
  assert.equal(domain?.attributes['disk.vdb.cache'], 'writethrough');
  assert.equal(domain?.attributes['disk.vdb.format'], 'raw');
  assert.equal(domain?.attributes['disk.sdc.cache'], 'unsafe');
  assert.equal(domain?.attributes['disk.vdc.path'], image);
  const vdb = join(paths.dir, 'vm-0_vdb.img');
  assert.equal(statSync(vdb).size, 8 * MiB);
  await virtualizer.destroyDomain('vm-0');
  assert.ok(!existsSync(vdb));
});

for (const machine of ['pc', 'q35']) {
  test(`V-42: ten virtio disks, SCSI, AHCI and IDE on a machine ${machine}`, async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open();
    const image = imageOf(ground.spec(0)) ?? '';
    const disks = [
      diskOn(image, 1),
      ...Array.from({ length: 10 }, (_, index) => more(2 + index, `v${index}`, {})),
      more(20, 'sda', { bus: 'ide' }),
      more(21, 'sdb', { bus: 'sata' }),
      more(22, 'sdc', { bus: 'scsi' }),
    ];
    const virtualizer = ground.virtualizer();
    const domain = await virtualizer.createDomain(ground.spec(0, { machine, disks }), soon());
    assert.equal(domain.state, 'running');
  });
}

const wrong: Readonly<Record<string, readonly [Partial<DiskSpec>, RegExp]>> = {
  'V-40: no source and no size': [
    { place: { kind: 'pool', pool: undefined } },
    /^disk\[2\]\.size is required for a disk without a source$/,
  ],
  'V-32: an image that does not exist': [
    { source: { kind: 'image', image: '/none' } },
    /^disk\[2\]\.source\.image: /,
  ],
};

test('V-19: the problems of every disk are reported with those of the rest', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const image = imageOf(ground.spec(0)) ?? '';
  for (const [title, [change, expected]] of Object.entries(wrong)) {
    const { sizeBytes: _, ...second } = more(2, 'vdb', change);
    const spec = ground.spec(0, { disks: [diskOn(image, 0), second] });
    const [first = '', other = '', ...rest] = await ground.virtualizer().problemsOf(spec, soon());
    assert.match(first, /^primary_disk_size 0 MiB is smaller than the image/, title);
    assert.match(other, expected, title);
    assert.deepEqual(rest, []);
  }
});

test('V-43 D28: read-only and discard on buses that can not do them are named', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const image = imageOf(ground.spec(0)) ?? '';
  const second = more(2, 'sda', { bus: 'sata', readOnly: true });
  const problems = await ground
    .virtualizer()
    .problemsOf(ground.spec(0, { disks: [diskOn(image, 1), second] }), soon());
  assert.deepEqual(problems, [
    "disk[2].read_only: a disk on sata can't be read-only; use virtio, scsi or usb, or the kind cdrom",
  ]);
});
