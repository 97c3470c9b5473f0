import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diskNamed, growthRemedy, planGrowth } from '../../src/vm/control/disk-growth.ts';
import { decodeRequest } from '../../src/vm/control/request.ts';
import type { RecordedDisk } from '../../src/vm/store/device-record.ts';

const MiB = 1024 * 1024;
const file = '/dev/fdset/1';

const raw: RecordedDisk = {
  kind: 'disk',
  id: 'disk-1',
  name: 'vdb',
  path: '/data/vdb.raw',
  format: 'raw',
  image: '',
  maxFileBytes: 8 * MiB,
};
const node = { 'node-name': 'disk-1', file, ro: false, image: { 'virtual-size': 8 * MiB } };

test('V-54: the file of a grown disk may be as long as its format needs', () => {
  const to = { bytes: 24 * MiB - 1, maxBytes: 100 * MiB };
  const grown = { node: 'disk-1', virtualBytes: 24 * MiB, allocatedBytes: undefined };
  assert.deepEqual(planGrowth(raw, [node], to), { ...grown, maxFileBytes: 24 * MiB });
  const qcow2 = { ...raw, format: 'qcow2', maxFileBytes: 72 * MiB };
  assert.deepEqual(planGrowth(qcow2, [node], to), { ...grown, maxFileBytes: 89 * MiB });
  const elsewhere = { ...raw, maxFileBytes: 0 };
  assert.deepEqual(planGrowth(elsewhere, [node], to), { ...grown, maxFileBytes: 0 });
  const allocated = (disk: RecordedDisk) =>
    planGrowth({ ...disk, allocated: true }, [node], to)?.allocatedBytes;
  assert.equal(allocated(raw), 24 * MiB);
  assert.equal(allocated(qcow2), 24 * MiB + 1.5 * MiB + 64 * MiB);
});

test('V-54: with limits of I/O the node grows that the guest sees', () => {
  const above = { ...node, 'node-name': 'disk-1-throttle' };
  const growth = planGrowth(raw, [above, node], { bytes: 9 * MiB, maxBytes: 9 * MiB });
  assert.equal(growth?.node, 'disk-1-throttle');
});

test('V-54: a disk that can not grow is named, with the reason', () => {
  const to = (bytes: number, changes = {}) =>
    planGrowth(raw, [{ ...node, ...changes }], { bytes, maxBytes: 9 * MiB });
  assert.equal(to(8 * MiB), undefined);
  assert.throws(() => to(8 * MiB - 512), /has 8388608 bytes already; a disk can't become smaller/);
  assert.throws(() => to(9 * MiB + 1), /raise limits\.max_disk_mb/);
  assert.throws(() => to(9 * MiB, { ro: true }), /the disk vdb is read-only/);
  assert.throws(() => to(9 * MiB, { 'node-name': 'disk' }), /QEMU does not know the disk vdb/);
  const { name: _, ...unnamed } = raw;
  assert.equal(diskNamed([unnamed], 'disk-1'), unnamed);
  assert.throws(() => diskNamed([raw], 'vda'), /the VM has no disk vda; it has vdb$/);
});

test('V-54: what QEMU can not make larger is to be grown elsewhere first', () => {
  const elsewhere = (path: string, other: Partial<RecordedDisk> = {}) =>
    growthRemedy({ ...raw, path, maxFileBytes: 0, ...other }).join();
  assert.match(elsewhere('/dev/loop0'), /make the device larger on the host/);
  // Plugins of storage put devices there as well.
  assert.match(elsewhere('/opt/csi/per-alloc/vol'), /make the device larger on the host/);
  const nbd = { server: { type: 'unix', path: '/run/nbd' }, discard: true } as const;
  assert.match(elsewhere('nbd+unix:///data?socket=/run/nbd', { nbd }), /restart its server/);
  assert.equal(elsewhere('rbd:pool/vm_vdb'), '');
  assert.deepEqual(growthRemedy(raw), []);
});

test('V-54: what is no request is refused at the place', () => {
  const request = { command: 'resize', disk: 'vdb', bytes: 1 } as const;
  assert.deepEqual(decodeRequest(JSON.stringify(request)), request);
  for (const [line, place] of [
    ['', /request: /],
    ['{"command":"eject"}', /command: /],
    ['{"command":"resize","disk":"vdb","bytes":0.5}', /bytes: /],
    ['{"command":"resize","disk":"vdb","bytes":0}', /bytes: /],
    ['{"command":"resize","disk":7,"bytes":1}', /disk: /],
    ['{"command":"backup","disk":"vda"}', /path: /],
    ['{"command":"backup","disk":"vda","path":"/f","speed":0}', /speed: /],
  ] as const) {
    assert.throws(() => decodeRequest(line), place, line);
  }
});
