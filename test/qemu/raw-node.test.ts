import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultDiskIo, disk, rawNode } from '#qemu';

const nbd = {
  driver: 'nbd',
  server: { type: 'unix', path: '/run/nbd' },
  export: 'data',
  reconnectSeconds: 10,
} as const;

const nowhere = { fd: assert.fail, path: assert.fail };

for (const discard of [true, false]) {
  test(`V-54: a disk that is opened again has the options it had (discard: ${discard})`, () => {
    const io = { ...defaultDiskIo, discard };
    const slot = { driver: 'virtio-blk-pci' };
    const description = { id: 'disk1', device: 'disk1-device', slot, serial: 'vdb' };
    const part = disk({ ...description, format: 'raw', protocol: nbd, io });
    const nodes = part.options(nowhere).map((it) => ('json' in it ? it.json : undefined));
    const node = rawNode({ id: 'disk1', discard });
    assert.deepEqual(
      node,
      nodes.find((it) => it?.['node-name'] === 'disk1'),
    );
  });
}
