import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import type { DiskSpec, StoragePools } from '#spec';
import { TaskConfigSchema } from '../../src/plugin/gen/driver_pb.ts';
import { disksFields } from '../../src/plugin/job/disks/disks.ts';
import { invalidTask } from '../../src/plugin/job/invalid-task.ts';
import { planTask } from '../../src/plugin/job/task.ts';
import { type TaskInit, task } from './requests.ts';

const authentication = { username: 'nomad', secret: 'c2VjcmV0' };
const pools: StoragePools = {
  pools: [
    { kind: 'directory', name: 'local', path: '/srv/a' },
    { kind: 'ceph', name: 'remote', pool: 'vms', hosts: [], ...authentication },
  ],
  default: 'local',
};
const context = {
  driverName: 'virt',
  hostArch: 'x86_64',
  limits: { minMemoryMiB: 500, minDiskMiB: 2000, maxDiskMiB: 100_000, maxConnections: 8192 },
  pools,
} as const;

type Block = Readonly<Record<string, unknown>>;

const mounts = [
  { taskPath: '/dev/vdb', hostPath: '/dev/loop3', requestName: 'block' },
  { taskPath: '/data/', hostPath: '/opt/volumes/data', requestName: 'data' },
  { taskPath: '/dev/mapper/old.disk', hostPath: '/dev/dm-1', readonly: true },
];

function planned(config: Block, change: TaskInit = { mounts }, more: object = {}) {
  const request = create(TaskConfigSchema, task({ ...change, config: { ...config } }));
  const { spec, problems } = planTask(request, { ...context, ...more });
  const texts = problems.map(({ path, text }) => `${path}: ${text}`);
  return { disks: spec.disks, texts };
}

function disksOf(...disk: readonly Block[]): readonly DiskSpec[] {
  const { disks, texts } = planned({ disk });
  assert.deepEqual(texts, []);
  return disks;
}

const image = { source: { image: '/a.qcow2' } };
const first = {
  block: 1,
  name: 'vda',
  kind: 'disk',
  bus: 'virtio',
  place: { kind: 'pool', pool: 'local' },
  source: { kind: 'image', image: '/a.qcow2' },
  chained: false,
  readOnly: false,
  sparse: true,
  primary: true,
  discard: true,
} as const;

test('V-39 V-40: the smallest disk, with all defaults, is the primary disk', () => {
  assert.deepEqual(disksOf(image), [first]);
});

test('V-39 V-53: every key of a disk', () => {
  const hex = 'AB'.repeat(32);
  const [, disk] = disksOf(
    { ...image, primary: true },
    {
      pool: 'local',
      devname: 'sdc',
      driver: 'qemu',
      kind: 'disk',
      bus_type: 'scsi',
      format: 'qcow2',
      primary: false,
      size: '20 GiB',
      chained: true,
      read_only: true,
      sparse: false,
      serial: 'data-1',
      cache: 'none',
      aio: 'native',
      discard: true,
      source: {
        image: 'local/a.tar',
        format: 'vmdk',
        checksum: `SHA256:${hex}`,
        member: 'a/disk.vmdk',
      },
      throttle: { iops: 500, bps_read: '1MB', bps_write: '2MiB', burst: 10 },
    },
  );
  assert.deepEqual(disk, {
    block: 2,
    name: 'sdc',
    kind: 'disk',
    bus: 'scsi',
    place: { kind: 'pool', pool: 'local' },
    source: {
      kind: 'image',
      image: 'local/a.tar',
      format: 'vmdk',
      checksum: { algorithm: 'sha256', hex: hex.toLowerCase() },
      member: 'a/disk.vmdk',
    },
    format: 'qcow2',
    sizeBytes: 20 * 1024 ** 3,
    chained: true,
    readOnly: true,
    sparse: false,
    statesSparse: true,
    primary: false,
    serial: 'data-1',
    cache: 'none',
    aio: 'native',
    discard: true,
    throttle: { iops: 500, bytesRead: 1e6, bytesWrite: 2 * 1024 ** 2, burstSeconds: 10 },
  });
});

test('V-18 V-37: the keys of the first releases are one disk, of the size of its image unless set', () => {
  const { block, ...disk } = { ...first, place: { kind: 'pool', pool: undefined } };
  assert.equal(block, 1);
  assert.deepEqual(planned({ image: '/a.qcow2' }), { disks: [disk], texts: [] });
  const wanted = { image: '/a.qcow2', primary_disk_size: 3000, use_thin_copy: true };
  assert.deepEqual(planned(wanted).disks, [
    { ...disk, sizeBytes: 3000 * 1024 ** 2, chained: true },
  ]);
});

test('V-3 V-4: both generations of keys in one task are one error that names them', () => {
  for (const [keys, names] of [
    [{ image: '/b' }, 'image'],
    [{ primary_disk_size: 5000, use_thin_copy: false }, 'primary_disk_size, use_thin_copy'],
  ] as const) {
    assert.deepEqual(planned({ ...keys, disk: [image] }).texts, [
      `disk: can not be used together with ${names}: write one or the other`,
    ]);
  }
});

test('V-40: a job without any disk', () => {
  assert.deepEqual(planned({}).texts, [
    'disk: no primary disk defined: write disk { source { image = "…" } }, or image',
  ]);
  assert.equal(planned({}).disks.length, 1);
});

test('V-40: the only disk that is no cdrom is the primary disk', () => {
  const disks = disksOf({ ...image, kind: 'cdrom' }, image, { ...image, kind: 'cdrom' });
  assert.deepEqual(
    disks.map(({ primary, readOnly }) => [primary, readOnly]),
    [
      [false, true],
      [true, false],
      [false, true],
    ],
  );
  assert.equal(disksOf({ ...image, kind: 'cdrom', primary: true }, image)[0]?.primary, true);
});

const namings: Readonly<Record<string, [blocks: readonly Block[], names: readonly string[]]>> = {
  'the next letter for each bus': [
    [{}, { bus_type: 'scsi' }, {}, { bus_type: 'usb' }, { bus_type: 'sata' }],
    ['vda', 'sda', 'vdb', 'sdb', 'sdc'],
  ],
  'the first that no other has': [
    [{}, { devname: 'vdc' }, { devname: 'hda' }, { volume: '/dev/vdb' }, {}],
    ['vda', 'vdc', 'hda', 'vdb', 'vdd'],
  ],
  'one after z': [
    [...Array.from({ length: 26 }, () => ({})), { devname: 'vdaa' }, {}],
    [...'abcdefghijklmnopqrstuvwxyz'].map((it) => `vd${it}`).concat('vdaa', 'vdab'),
  ],
};
for (const [name, [blocks, names]] of Object.entries(namings)) {
  test(`V-41: a disk without a name gets ${name}`, () => {
    const disks = disksOf(
      ...blocks.map((block, index) => ({ ...image, primary: index === 0, ...block })),
    );
    assert.deepEqual(
      disks.map(({ name }) => name),
      names,
    );
  });
}

test('V-41: 39 disks have 39 names', () => {
  const disks = disksOf(
    ...Array.from({ length: 39 }, (_, at) => ({ ...image, primary: at === 9 })),
  );
  assert.equal(new Set(disks.map(({ name }) => name)).size, 39);
  assert.equal(disks[38]?.name, 'vdam');
});

test('V-42: the default bus of each kind, by machine', () => {
  const disk = [
    { ...image, primary: true },
    { ...image, kind: 'cdrom' },
    { kind: 'lun', volume: '/dev/vdb' },
  ];
  const buses = (config: Block) => planned(config).disks.map(({ bus }) => bus);
  assert.deepEqual(buses({ disk }), ['virtio', 'ide', 'scsi']);
  assert.deepEqual(buses({ disk, os: { arch: 'arm64' } }), ['virtio', 'scsi', 'scsi']);
});

test('V-44 V-46: format and allocation by pool', () => {
  const disk = [
    { ...image, primary: true, format: 'raw' },
    { ...image, format: 'raw', sparse: true },
    { ...image, pool: 'remote' },
    { size: '1GiB', pool: 'remote', sparse: true, format: 'raw' },
  ];
  assert.deepEqual(
    disksOf(...disk).map(({ format, sparse, discard }) => [format, sparse, discard]),
    [
      ['raw', false, false],
      ['raw', true, true],
      ['raw', true, true],
      ['raw', true, true],
    ],
  );
});

test('V-44: a clone of a volume, and without storage_pools the pool of the driver', () => {
  const [clone] = disksOf({ source: { volume: 'focal.img' }, chained: true });
  assert.deepEqual(clone?.source, { kind: 'volume', volume: 'focal.img' });
  const [ofSnapshot] = disksOf({ source: { volume: 'golden@v1' }, chained: true });
  assert.deepEqual(ofSnapshot?.source, { kind: 'volume', volume: 'golden@v1' });
  const none = { pools: { pools: [], default: undefined } };
  assert.deepEqual(planned({ disk: [image] }, {}, none).disks[0]?.place, {
    kind: 'pool',
    pool: undefined,
  });
});

test('V-37: a disk has whole blocks', () => {
  assert.equal(disksOf({ ...image, size: '2500MB' })[0]?.sizeBytes, 2_500_001_792);
});

test('V-48 V-52: a disk in a Nomad volume, by destination or by name', () => {
  const disks = disksOf(
    { ...image, primary: true },
    { volume: '/dev/vdb' },
    { volume: 'data', size: '1GiB', format: 'qcow2', chained: true, ...image, file: 'x.img' },
    { volume: '/data', format: 'raw' },
    { volume: '/dev/mapper/old.disk/', devname: 'old' },
  ).slice(1);
  const data = { kind: 'volume', hostPath: '/opt/volumes/data', readOnly: false };
  assert.deepEqual(
    disks.map(({ name, place, readOnly }) => ({ name, place, readOnly })),
    [
      { name: 'vdb', place: { ...data, hostPath: '/dev/loop3' }, readOnly: false },
      { name: 'vdc', place: { ...data, file: 'x.img' }, readOnly: false },
      { name: 'vdd', place: data, readOnly: false },
      { name: 'old', place: { ...data, hostPath: '/dev/dm-1', readOnly: true }, readOnly: true },
    ],
  );
});

test('V-50: only a mount that a disk names is a disk, the others are directories in the guest', () => {
  const request = create(
    TaskConfigSchema,
    task({ mounts, config: { disk: [{ volume: '/data' }] } }),
  );
  const { spec, problems } = planTask(request, context);
  assert.deepEqual(problems, []);
  assert.deepEqual(
    spec.shares.slice(3).map(({ tag, target, volume }) => ({ tag, target, volume })),
    [
      { tag: '_dev_vdb', target: '/dev/vdb', volume: true },
      { tag: '_dev_mapper_old.disk', target: '/dev/mapper/old.disk', volume: true },
    ],
  );
});

test('V-70: tags are as nomad-driver-virt has them, short enough, and no two are the same', () => {
  const long = `/srv/${'a'.repeat(60)}`;
  const paths = ['/srv/data', '/srv_data', '/srv/da ta', long, `${long}b`];
  const request = create(
    TaskConfigSchema,
    task({
      mounts: paths.map((taskPath) => ({ taskPath, hostPath: '/srv', readonly: true })),
      config: { disk: [image] },
    }),
  );
  const { spec, problems } = planTask(request, context);
  assert.deepEqual(problems, []);
  const tags = spec.shares.slice(3).map(({ tag }) => tag);
  assert.deepEqual(tags.slice(0, 1), ['_srv_data']);
  assert.equal(new Set(tags).size, paths.length);
  assert.ok(
    tags.every((tag) => /^[A-Za-z0-9_.-]{1,31}$/.test(tag)),
    tags.join(' '),
  );
  assert.ok(spec.shares.slice(3).every(({ readOnly }) => readOnly));
});

const servers = {
  'nbd://192.0.2.1/data': { server: { host: '192.0.2.1', port: 10_809 }, export: 'data' },
  'nbd://[2001:db8::1]:99': { server: { host: '2001:db8::1', port: 99 }, export: '' },
  'nbd://a.example:1/x%20y/z': { server: { host: 'a.example', port: 1 }, export: 'x y/z' },
  'nbd+unix:///?socket=/run/a+b.sock': { server: { socket: '/run/a+b.sock' }, export: '' },
  'nbd+unix:///data?socket=%2Frun%2Fx': { server: { socket: '/run/x' }, export: 'data' },
};
for (const [nbd, place] of Object.entries(servers)) {
  test(`V-47: the export ${nbd}`, () => {
    const [disk] = disksOf({ source: { nbd } });
    assert.deepEqual(disk, {
      ...Object.fromEntries(Object.entries(first).filter(([key]) => key !== 'source')),
      place: { kind: 'nbd', ...place },
      format: 'raw',
    });
  });
}

const other = { ...image, primary: true };
const nbd = { nbd: 'nbd://a/b' };
const problems: Readonly<Record<string, [blocks: readonly Block[], texts: readonly string[]]>> = {
  'V-39 a source of nothing': [
    [{ source: {} }],
    ['disk[1].source: disk source must define an image or volume'],
  ],
  'V-39 a source of both': [
    [{ source: { image: '/a', volume: 'b' } }],
    ['disk[1].source: source.volume and source.image are mutually exclusive'],
  ],
  'V-39 a volume that is a path': [
    [{ source: { volume: '../a' } }],
    ['disk[1].source.volume: "../a" is not the name of a volume'],
  ],
  'V-46 a snapshot without a name': [
    [{ source: { volume: 'golden@' } }],
    ['disk[1].source.volume: "golden@" is not the name of a volume'],
  ],
  'V-39 the format of a volume': [
    [{ source: { volume: 'a', format: 'raw' } }],
    ['disk[1].source.format: can only be set with source.image'],
  ],
  'V-39 chained to nothing': [
    [{ size: '4GiB', chained: true }],
    ['disk[1].chained: chained cannot be enabled without a source'],
  ],
  'V-39 neither size nor source': [
    [other, {}],
    ['disk[2].size: missing required attribute: a disk without a source needs it'],
  ],
  'V-44 a format that is none': [
    [{ ...image, format: 'vdi' }],
    ['disk[1].format: format only supports raw or qcow2 for directory volumes'],
  ],
  'V-44 a chained raw disk': [
    [{ ...image, chained: true, format: 'raw' }],
    ['disk[1].format: format must be qcow2 for chained directory volumes'],
  ],
  'V-46 qcow2 in ceph': [
    [{ ...image, pool: 'remote', format: 'qcow2', sparse: false }],
    [
      'disk[1].format: format can only be raw for ceph volumes',
      'disk[1].sparse: sparse cannot be disabled for ceph volumes',
    ],
  ],
  'V-44 an unknown pool': [
    [{ ...image, pool: 'x' }],
    ['disk[1].pool: could not load storage pool - pool not found: "x"; known are local, remote'],
  ],
  'V-40 two primary disks': [
    [other, image, other],
    ['disk: multiple primary disks defined (disks: 1, 3)'],
  ],
  'V-40 no primary disk': [
    [image, image],
    ['disk: no primary disk defined: set primary = true in the block of one disk'],
  ],
  'V-40 only a cdrom': [
    [{ ...image, kind: 'cdrom' }],
    ['disk: no primary disk defined: set primary = true in the block of one disk'],
  ],
  'V-41 one name twice': [
    [other, { ...image, devname: 'vdb' }, { ...image, devname: 'vdb' }],
    ['disk[3].devname: "vdb" is the name of disk[2] already'],
  ],
  'V-41 a name with a slash': [
    [{ ...image, devname: '../x' }],
    [
      'disk[1].devname: "../x" is not a name for a disk (at most 15 letters, digits, dashes and underscores, the first a letter); set devname to another one',
    ],
  ],
  'V-42 a cdrom on virtio': [
    [other, { ...image, kind: 'cdrom', bus_type: 'virtio' }],
    ['disk[2].bus_type: a cdrom can not be on virtio: use scsi, sata, ide or usb'],
  ],
  'V-42 an empty cdrom': [[other, { kind: 'cdrom' }], ['disk[2].source: a cdrom needs a source']],
  'V-42 a kind and a bus that are none': [
    [{ ...image, kind: 'floppy', bus_type: 'fdc' }],
    [
      'disk[1].kind: must be one of disk, cdrom, lun, not "floppy"',
      'disk[1].bus_type: must be one of virtio, scsi, sata, ide, usb, not "fdc"',
    ],
  ],
  'V-142 a lun that is no device': [
    [other, { ...image, kind: 'lun', bus_type: 'virtio' }],
    [
      'disk[2].bus_type: a lun can only be on scsi',
      'disk[2].kind: a lun is a block device: name the volume_mount that has it with volume',
    ],
  ],
  'V-142 a long serial number': [
    [{ ...image, serial: 'x'.repeat(21) }],
    [
      `disk[1].serial: "${'x'.repeat(21)}" is not a serial number (at most 20 letters, digits, dots, dashes and underscores)`,
    ],
  ],
  'V-142 a serial number that another disk has by default': [
    [
      other,
      { ...image, serial: 'primary' },
      { ...image, serial: 'vdb' },
      { ...image, serial: 'vdb' },
    ],
    [
      'disk[2].serial: "primary" is that of disk[1] already',
      'disk[4].serial: "vdb" is that of disk[3] already',
    ],
  ],
  'V-27 a size that is none': [
    [{ ...image, size: '200X' }],
    [
      'disk[1].size: size value is not valid - "200X": write a number with a unit, such as "20GiB" or "20GB"; without one it is bytes',
    ],
  ],
  'V-20 V-37 sizes out of limits; the minimum is for the primary disk': [
    [
      { ...other, size: '1999MiB' },
      { size: '98GiB' },
      { size: '16E' },
      { size: '0' },
      { size: '1GB' },
    ],
    [
      'disk[1].size: not enough disk space assigned to task: "1999MiB", at least 2000 MiB are needed',
      'disk[2].size: "98GiB" is more than the 100000 MiB allowed',
      'disk[3].size: "16E" is more than the 100000 MiB allowed',
      'disk[4].size: must be more than 0',
    ],
  ],
  'V-48 a volume without its mount': [
    [other, { volume: '/dev/vdc' }],
    [
      'disk[2].volume: missing Nomad volume mount configuration: no volume_mount has the destination "/dev/vdc"; there are /dev/vdb, /data/, /dev/mapper/old.disk',
    ],
  ],
  'V-48 a volume of Nomad with a pool and one of its volumes': [
    [other, { volume: '/data', pool: 'local', source: { volume: 'x' } }],
    [
      'disk[2].pool: cannot be set when using Nomad volume',
      'disk[2].source.volume: cannot be set when using Nomad volume',
    ],
  ],
  'V-48 a device whose name can not be that of a disk': [
    [other, { volume: '/dev/mapper/old.disk' }],
    [
      'disk[2].volume: "old.disk" is not a name for a disk (at most 15 letters, digits, dashes and underscores, the first a letter); set devname to another one',
    ],
  ],
  'V-48 one file for two disks': [
    [other, { volume: '/data', file: 'a' }, { volume: '/data/', file: 'a' }],
    ['disk[3].volume: has the content of disk[2] already'],
  ],
  'V-48 a file outside of the volume': [
    [
      other,
      { volume: '/data', file: '../a' },
      { volume: '/data', file: '..' },
      { ...image, file: 'a' },
    ],
    [
      'disk[2].file: "../a" is not the plain name of a file',
      'disk[3].file: ".." is not the plain name of a file',
      'disk[4].file: can only be set with volume',
    ],
  ],
  'V-47 an NBD server with what is not its own': [
    [
      {
        source: { ...nbd, image: '/a', volume: 'b', checksum: 'c' },
        pool: 'local',
        volume: '/data',
        file: 'x',
        size: '4GiB',
        sparse: false,
        chained: true,
      },
    ],
    [
      'disk[1].pool: cannot be set with source.nbd',
      'disk[1].volume: cannot be set with source.nbd',
      'disk[1].file: cannot be set with source.nbd',
      'disk[1].size: cannot be set with source.nbd',
      'disk[1].sparse: cannot be set with source.nbd',
      'disk[1].chained: cannot be set with source.nbd',
      'disk[1].source.image: cannot be set with source.nbd',
      'disk[1].source.volume: cannot be set with source.nbd',
      'disk[1].source: source.volume and source.image are mutually exclusive',
      'disk[1].source.checksum: "c" is not "sha256:" with 64 or "sha512:" with 128 hexadecimal digits',
    ],
  ],
  'V-53 aio without its cache': [
    [{ ...image, aio: 'native', cache: 'writeback' }],
    ['disk[1].aio: "native" needs cache "none" or "directsync"'],
  ],
  'V-53 limits that exclude each other, and none': [
    [
      { ...other, throttle: { iops: 1, iops_read: 1, bps: '1M', bps_write: '1M' } },
      { ...image, throttle: {} },
      { ...image, throttle: { bps: '1 mile', bps_read: '1E', iops_read: 0 } },
    ],
    [
      'disk[3].throttle.iops_read: must be at least 1, not 0',
      'disk[1].throttle.iops: can not be combined with iops_read and iops_write',
      'disk[1].throttle.bps: can not be combined with bps_read and bps_write',
      'disk[2].throttle: sets no limit',
      'disk[3].throttle.bps: "1 mile" is not a number of bytes: write a number with a unit, such as "20GiB" or "20GB"; without one it is bytes',
      'disk[3].throttle.bps_read: "1E" is more than the 1000 TB possible',
      'disk[3].throttle.bps: can not be combined with bps_read and bps_write',
    ],
  ],
  'V-53 limits of nothing and, with a burst, of too much': [
    [{ ...image, throttle: { bps: '0', bps_read: '1TB', bps_write: '1TB', burst: 1001 } }],
    [
      'disk[1].throttle.bps: must be more than 0; leave it out for no limit',
      'disk[1].throttle.bps_read: "1TB" times burst = 1001 is more than the 1000 TB possible',
      'disk[1].throttle.bps_write: "1TB" times burst = 1001 is more than the 1000 TB possible',
      'disk[1].throttle.bps: can not be combined with bps_read and bps_write',
    ],
  ],
  'V-53 V-142 what has no effect on a lun': [
    [
      other,
      {
        volume: '/dev/vdb',
        kind: 'lun',
        serial: 'x',
        cache: 'writethrough',
        aio: 'threads',
        discard: false,
        throttle: { iops: 5 },
      },
    ],
    ['serial', 'cache', 'aio', 'discard', 'throttle'].map(
      (key) =>
        `disk[2].${key}: cannot be set for a lun: the guest sends its SCSI commands to the device itself`,
    ),
  ],
  'V-53 V-46 V-47 aio of a disk elsewhere': [
    [
      { ...image, primary: true, pool: 'remote', aio: 'native', cache: 'none' },
      { source: nbd, aio: 'io_uring', cache: 'unsafe' },
    ],
    [
      'disk[1].aio: can only be set for a file or a device of the host, not for a disk elsewhere',
      'disk[2].aio: can only be set for a file or a device of the host, not for a disk elsewhere',
    ],
  ],
  'V-47 an NBD export of another format': [
    [{ source: nbd, format: 'qcow2' }],
    ['disk[1].format: format can only be raw for NBD exports'],
  ],
  'V-42 an empty cdrom of some size': [
    [other, { kind: 'cdrom', size: '1GiB' }],
    ['disk[2].source: a cdrom needs a source'],
  ],
  'V-48 one file for two disks, once by the name that it has by default': [
    [
      other,
      { volume: '/data' },
      { volume: '/data', file: 'vdb.qcow2' },
      { volume: '/data', format: 'raw', devname: 'x' },
      { volume: 'data', file: 'x.raw' },
    ],
    [
      'disk[3].volume: has the content of disk[2] already',
      'disk[5].volume: has the content of disk[4] already',
    ],
  ],
  'V-40 too many disks': [
    Array.from({ length: 40 }, (_, at) => ({ ...image, primary: at === 0 })),
    ['disk: 40 disks are more than the 39 possible'],
  ],
};
for (const [name, [disk, texts]] of Object.entries(problems)) {
  test(`${name.replace(/^((?:V-\d+ )+)/, (items) => `${items.trim()}: `)}`, () => {
    const found = planned({ disk });
    assert.deepEqual(found.texts, texts);
    assert.equal(found.disks.filter(({ primary }) => primary).length, 1);
  });
}

for (const [text, reason] of Object.entries({
  'nbd://a/b?socket=/x': 'a socket for TCP',
  'nbd://user@a/b': 'a user',
  'nbd://': 'no host',
  'nbd://a:0/b': 'no port',
  'nbd://a/%zz': 'a bad escape',
  'nbd://a/%00': 'a NUL',
  'nbd+unix://a/b?socket=/x': 'a host beside the socket',
  'nbd+unix:///b?socket=x': 'a relative socket',
  'nbd+unix:///b': 'no socket',
  [`nbd+unix:///b?socket=/${'x'.repeat(107)}`]: 'a long socket',
  'nbds://a/b': 'TLS',
  'http://a/b': 'another protocol',
})) {
  test(`V-47: no export of NBD: ${reason}`, () => {
    const { texts } = planned({ disk: [{ source: { nbd: text } }] });
    assert.match(
      texts.join(),
      /^disk\[1\]\.source\.nbd: ".*" is not "nbd:\/\/host:port\/export" or/,
    );
  });
}

test('V-48 V-50: options that no guest can have are refused for the mount of a disk, too', () => {
  const mounts = [
    { taskPath: '/a', hostPath: '/a', propagationMode: 'bidirectional' },
    { taskPath: '/b', hostPath: '/b', propagationMode: 'private', selinuxLabel: 'z' },
  ];
  const disk = [{ volume: '/a', primary: true }, { volume: '/b' }];
  assert.deepEqual(planned({ disk }, { mounts }).texts, [
    'volume_mount: "/a" can\'t have propagation_mode "bidirectional": a guest has mounts of its own; use "private"',
    'volume_mount: "/b" can\'t have selinux_label: a guest does not see the labels of the host; leave it out',
  ]);
});

test('V-136: keys of the builtin qemu driver are answered with the keys to use', () => {
  assert.deepEqual(planned({ image_path: '/a', drive_interface: 'virtio', image: '/a' }).texts, [
    'image_path: is not a key of this driver: use `image`, or `disk { source { image } }`',
    'drive_interface: is not a key of this driver: use `disk { bus_type }`',
  ]);
});

test('V-19: a problem with all disks does not hide what the host finds about one of them', () => {
  const problems = [
    { path: 'disk', text: 'no primary disk defined' },
    { path: 'disk[1].size', text: 'wrong' },
  ];
  const found = ['disk[1].size 5 is too small', 'disk[1].source.image: there is no file /a'];
  const request = create(TaskConfigSchema, task());
  const { message } = invalidTask(request, context, { problems, found });
  assert.match(message, /: 3 problems: .*; disk\[1\]\.source\.image: there is no file \/a$/);
});

test('V-9: no block crashes the reader, and a VM always has one primary disk', () => {
  const text = fc.oneof(
    fc.string(),
    fc.constantFrom('1GiB', '/data', 'data', 'raw', 'cdrom', 'lun'),
  );
  const value = fc.oneof(text, fc.boolean(), fc.integer(), fc.constant(null), fc.array(text));
  const keys = Object.keys(disksFields.disk.fields);
  const inner = (fields: object) => fc.dictionary(fc.constantFrom(...Object.keys(fields)), value);
  const { source, throttle } = disksFields.disk.fields;
  const block = fc
    .tuple(
      fc.dictionary(fc.constantFrom(...keys), value),
      fc.option(inner(source.fields)),
      fc.option(inner(throttle.fields)),
    )
    .map(([keys, source, throttle]) => ({ ...keys, source, throttle }));
  fc.assert(
    fc.property(fc.array(fc.oneof(block, value), { maxLength: 5 }), (disk) => {
      const { disks, texts } = planned({ disk });
      assert.equal(disks.filter(({ primary }) => primary).length, 1);
      assert.equal(disks.length, Math.max(1, disk.length));
      if (texts.length > 0) return;
      assert.equal(new Set(disks.map(({ name }) => name)).size, disks.length);
    }),
    { numRuns: 2000 },
  );
});
