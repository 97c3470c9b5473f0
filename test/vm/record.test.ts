import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { decodeRecord, readRecord, type VmRecord, writeRecord } from '../../src/vm/store/record.ts';
import { tmpDir } from '../support/tmp.ts';

const record: VmRecord = {
  version: 1,
  name: 'web-12345678',
  uuid: '83c5b4f2-72de-88e5-b967-d4b519ea8d10',
  dataDir: '/var/lib/virt',
  nodeId: 'node',
  taskId: 'alloc/web/12345678',
  taskName: 'web',
  allocId: 'alloc',
  groupName: 'group',
  jobId: 'job',
  jobName: 'job',
  namespace: 'default',
  nodeName: 'n1',
  allocDir: '/alloc',
  machine: 'pc-q35-7.2',
  accelerator: 'tcg',
  vcpus: 1,
  memoryMiB: 64,
  uid: 1_900_000_000,
  image: '/images/a.raw',
  diskPath: '/var/lib/virt/vms/web-12345678/disk',
  runDir: '/run/nomad-driver-qmp/12345678',
  startedAtMs: 1_700_000_000_000,
  oomKillsBefore: 0,
  cgroup: { version: 1, groups: ['/g'], writes: [{ file: '/f', value: '1' }], oomFile: undefined },
  nics: [
    {
      tap: 'tap0',
      mac: '52:54:00:00:00:01',
      bridge: 'virbr0',
      ip: '192.0.2.1',
      portMap: { http: 80 },
    },
    { tap: 'tap1', mac: '52:54:00:00:00:02', bridge: 'br0', portMap: {} },
  ],
};

test('what is written of a VM comes back, in a file for root alone', async (t) => {
  const path = join(tmpDir(t), 'record.json');
  assert.equal(await readRecord(path), undefined);
  await writeRecord(path, record);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual(
    JSON.parse(JSON.stringify(await readRecord(path))),
    JSON.parse(JSON.stringify(record)),
  );
});

test('a record that makes no sense is refused with the file and every field', async (t) => {
  const path = join(tmpDir(t), 'record.json');
  const text = JSON.stringify(record);
  for (let length = 0; length < text.length; length += 7) {
    assert.throws(() => decodeRecord(text.slice(0, length), path), { code: 'recover' });
  }
  writeFileSync(path, JSON.stringify({ ...record, vcpus: -1, nics: [{ tap: 7 }] }));
  await assert.rejects(readRecord(path), (error) => {
    assert.ok(error instanceof Error);
    for (const part of [path, 'vcpus', 'nics.0.tap', 'nics.0.mac'])
      assert.match(error.message, new RegExp(part));
    return true;
  });
  assert.throws(() => decodeRecord(JSON.stringify({ ...record, version: 2 }), path), /version/);
  await assert.rejects(readRecord(tmpDir(t)), { code: 'recover' });
});
