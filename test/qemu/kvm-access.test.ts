import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closedDevice, vmGid } from '../../src/qemu/kvm/access.ts';

const cases = [
  ['no device: a group of its own', undefined, 7000],
  ['root only: no other user gets in', { mode: 0o20600, gid: 0 }, 7000],
  ['root and its group: that group is not given away', { mode: 0o20660, gid: 0 }, 7000],
  ['a group of the distribution: the VM is in it', { mode: 0o20660, gid: 104 }, 104],
  ['everybody: no need of the group', { mode: 0o20666, gid: 104 }, 7000],
  ['a group that may only read: no use', { mode: 0o20640, gid: 104 }, 7000],
] as const;

for (const [name, stats, gid] of cases) {
  test(`V-75 group for KVM: ${name}`, () => {
    assert.equal(vmGid(7000, stats ?? { mode: 0o20600, gid: 0 }), gid);
  });
}

for (const [name, stats, gid] of cases.slice(1)) {
  const closed = gid === 7000 && stats?.mode !== 0o20666;
  test(`V-75 ${closed ? 'the command that opens KVM to VMs' : 'KVM is open to VMs'}: ${name}`, () => {
    const remedy = closedDevice(7000, stats);
    if (!closed) return assert.equal(remedy, undefined);
    assert.match(
      remedy ?? '',
      /open to root only.*: groupadd --force --system kvm && chown root:kvm \/dev\/kvm && chmod 660 \/dev\/kvm$/,
    );
  });
}
