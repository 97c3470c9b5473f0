import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HostError, openVhostNet } from '../../src/host/index.ts';
import { OpenFiles } from '../../src/vm/devices/files.ts';
import { openVhost, usesVhost } from '../../src/vm/devices/nics.ts';
import { vhostAttributes } from '../../src/vm/host-health.ts';

const works = { usable: true } as const;
const missing = { usable: false, reason: 'not here' } as const;

test('V-124: the kernel serves taps of guests under KVM, where it can', async () => {
  assert.equal(await usesVhost({ accelerator: 'kvm' }, async () => works), true);
  assert.equal(await usesVhost({ accelerator: 'tcg' }, async () => works), false);
  assert.equal(await usesVhost({ accelerator: 'kvm' }, async () => missing), false);
});

test('V-124: only cards of virtio are served so, each queue by a descriptor of its own', async () => {
  const { site, warnings } = newSite();
  await using files = site.files;
  const open = (queues: number) => openVhostNet(queues, '/dev/null');
  assert.equal(openVhost({ index: 0, model: 'e1000e' }, 1, site, open), false);
  assert.equal(openVhost({ index: 1 }, 2, site, open), true);
  const [first, second] = files.inOrder(['vhost-tap1', 'vhost-tap1-1']);
  assert.notEqual(first, second);
  assert.deepEqual(warnings, []);
});

test('V-124: a VM starts without vhost-net when it cannot be opened, which the log reports', async () => {
  const { site, warnings } = newSite();
  await using _files = site.files;
  const open = (): never => {
    throw new HostError('opening /dev/vhost-net: EMFILE', { errno: 'EMFILE' });
  };
  assert.equal(openVhost({ index: 0 }, 1, site, open), false);
  assert.deepEqual(warnings, ['vhost-net could not be opened, QEMU copies the frames itself']);
});

test('V-16: the node has whether vhost-net works, and why not', () => {
  assert.deepEqual(vhostAttributes(works), { vhost_net: true, 'vhost_net.reason': '' });
  assert.deepEqual(vhostAttributes(missing), { vhost_net: false, 'vhost_net.reason': 'not here' });
});

function newSite() {
  const warnings: string[] = [];
  const nothing = (): void => undefined;
  const warn = (message: string): void => void warnings.push(message);
  const log = { trace: nothing, debug: nothing, info: nothing, warn, error: nothing };
  return { site: { vm: 'web-1', files: new OpenFiles(), log }, warnings };
}
