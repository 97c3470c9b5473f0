import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeNicRecord, makeNicRecord } from '../../src/net/model/nic.ts';

/** As versions before `AttachedNic.record` wrote it. */
const former = {
  tap: 'qmp0a1b2c3d',
  mac: '52:01:02:03:04:05',
  bridge: 'virbr0',
  ip: '192.168.122.9',
  portMap: { http: 80 },
};
const request = {
  vm: 'web',
  index: 0,
  bridge: 'virbr0',
  ports: [{ label: 'http', hostIp: '', hostPort: 8080, guestPort: 80 }],
  hostname: 'web',
};

test('P-37: a NIC is recorded in the form of earlier versions, and theirs is read', () => {
  assert.deepEqual(makeNicRecord(request, former), former);
  assert.deepEqual(decodeNicRecord(JSON.parse(JSON.stringify(former))), former);
  const { ip: _, ...foreign } = former;
  assert.deepEqual(makeNicRecord(request, foreign), foreign);
  assert.deepEqual(decodeNicRecord(foreign), foreign);
});

test('a record of a later version is read as far as it is known; what is none is refused', () => {
  assert.deepEqual(decodeNicRecord({ ...former, backend: 'macvtap' }), former);
  for (const json of [undefined, null, 'tap', [], {}, { ...former, tap: undefined }]) {
    assert.equal(decodeNicRecord(json), undefined);
  }
});
