import assert from 'node:assert/strict';
import { fstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd } from '#host';
import { openVhostNet, probeVhostNet } from '../../src/host/files/vhost-net.ts';
import { tmpDir } from '../support/tmp.ts';

const descriptors = () => readdirSync('/proc/self/fd').length;

test('V-16: vhost-net that is not there or refuses is not used, with the reason', async (t) => {
  const missing = join(tmpDir(t), 'vhost-net');
  const before = descriptors();
  assert.deepEqual(await probeVhostNet(missing), {
    usable: false,
    reason: `${missing} cannot be opened (ENOENT): load the kernel module vhost_net`,
  });
  // A device that opens proves nothing: QEMU would end at its first request to this one.
  assert.deepEqual(await probeVhostNet('/dev/null'), {
    usable: false,
    reason: '/dev/null takes no owner: ENOTTY',
  });
  assert.equal(descriptors(), before);
});

test('V-124: vhost-net is opened anew for each queue, or not at all', (t) => {
  const missing = join(tmpDir(t), 'vhost-net');
  const before = descriptors();
  const fds = openVhostNet(3, '/dev/null');
  assert.equal(new Set(fds).size, 3);
  for (const fd of fds) assert.ok(fstatSync(fd).isCharacterDevice());
  for (const fd of fds) closeFd(fd);
  assert.throws(() => openVhostNet(2, missing), { name: 'HostError', errno: 'ENOENT' });
  assert.equal(descriptors(), before);
});
