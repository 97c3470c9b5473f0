import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  decodeRecord,
  disksOf,
  nicsOf,
  readRecord,
  type VmRecord,
  writeRecord,
} from '../../src/vm/store/record.ts';
import { tmpDir } from '../support/tmp.ts';
import { exampleRecord } from '../support/vm-record.ts';

const record: VmRecord = {
  ...exampleRecord,
  cgroup: { version: 1, groups: ['/g'], writes: [{ file: '/f', value: '1' }], oomFile: undefined },
  devices: [
    {
      kind: 'disk',
      id: 'disk',
      path: '/var/lib/virt/vms/web-12345678/web-12345678.img',
      format: 'qcow2',
      image: '/images/a.raw',
      maxFileBytes: 4096,
    },
    {
      kind: 'nic',
      id: 'net0',
      tap: 'tap0',
      mac: '52:54:00:00:00:01',
      bridge: 'virbr0',
      ip: '192.0.2.1',
      portMap: { http: 80 },
    },
    { kind: 'nic', id: 'net1', tap: 'tap1', mac: '52:54:00:00:00:02', bridge: 'br0', portMap: {} },
    { kind: 'seed', id: 'seed' },
  ],
};

/** As JSON has it: without what is undefined. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

async function written(t: TestContext, changed: VmRecord = record): Promise<object> {
  const path = join(tmpDir(t), 'record.json');
  await writeRecord(path, changed);
  return JSON.parse(readFileSync(path, 'utf8'));
}

test('what is written of a VM comes back, in a file for root alone', async (t) => {
  const path = join(tmpDir(t), 'record.json');
  assert.equal(await readRecord(path), undefined);
  await writeRecord(path, record);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual(plain(await readRecord(path)), plain(record));
});

test('a record of the first release has the devices that its VMs had', async (t) => {
  const { devices: _, ...first } = (await written(t)) as { devices: unknown };
  const { devices } = decodeRecord(JSON.stringify(first), 'vm.json');
  assert.deepEqual(
    devices.map(({ kind, id }) => `${kind} ${id}`),
    ['disk disk', 'nic net0', 'nic net1'],
  );
  const [disk] = disksOf({ devices });
  assert.equal(disk?.path, '/var/lib/virt/vms/web-12345678/web-12345678.img');
  assert.equal(disk?.maxFileBytes, undefined, 'its disk was not limited');
  assert.deepEqual(nicsOf({ devices }), nicsOf(record));
});

test('the first release can read what is written: its fields are there', async (t) => {
  const first = plain(await written(t)) as Record<string, unknown>;
  assert.equal(first.version, 1);
  assert.equal(first.image, '/images/a.raw');
  assert.equal(first.diskFormat, 'qcow2');
  assert.deepEqual(first.nics, [
    {
      tap: 'tap0',
      mac: '52:54:00:00:00:01',
      bridge: 'virbr0',
      ip: '192.0.2.1',
      portMap: { http: 80 },
    },
    { tap: 'tap1', mac: '52:54:00:00:00:02', bridge: 'br0', portMap: {} },
  ]);
});

test('a record of a later release is read as far as it is known', async (t) => {
  const later = {
    ...(await written(t)),
    somethingNew: { a: 1 },
    devices: [
      { kind: 'tpm', id: 'tpm0', state: '/x' },
      { ...record.devices[0], format: 'qcow2', encrypted: true },
      { kind: 'nic', id: 'net0', backend: 'user' },
      7,
    ],
  };
  const { devices } = decodeRecord(JSON.stringify(later), 'vm.json');
  assert.deepEqual(plain(devices), plain([record.devices[0]]));
});

test('a record that makes no sense is refused with the file and every field', async (t) => {
  const path = join(tmpDir(t), 'record.json');
  const text = JSON.stringify(await written(t));
  for (let length = 0; length < text.length; length += 7) {
    assert.throws(() => decodeRecord(text.slice(0, length), path), { name: 'VmError' });
  }
  writeFileSync(path, JSON.stringify({ ...JSON.parse(text), vcpus: -1, nics: [{ tap: 7 }] }));
  await assert.rejects(readRecord(path), (error) => {
    assert.ok(error instanceof Error);
    for (const part of [path, 'vcpus', 'nics.0.tap', 'nics.0.mac'])
      assert.match(error.message, new RegExp(part));
    return true;
  });
  const other = JSON.stringify({ ...JSON.parse(text), version: 2 });
  assert.throws(() => decodeRecord(other, path), /version/);
  await assert.rejects(readRecord(tmpDir(t)), { name: 'VmError' });
});
