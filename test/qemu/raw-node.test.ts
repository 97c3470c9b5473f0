import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cacheModes, defaultDiskIo, disk, rawNode } from '#qemu';

const nbd = {
  driver: 'nbd',
  server: { type: 'unix', path: '/run/nbd' },
  export: 'data',
  reconnectSeconds: 10,
} as const;

const nowhere = { fd: assert.fail, path: assert.fail };

for (const [cache, discard] of [
  ['writeback', true],
  ['writeback', false],
  ['none', true],
  ['unsafe', true],
] as const) {
  test(`V-54: a disk that is opened again has the options it had (cache: ${cache}, discard: ${discard})`, () => {
    const io = { ...defaultDiskIo, ...cacheModes[cache], discard };
    const slot = { driver: 'virtio-blk-pci' };
    const description = { id: 'disk1', device: 'disk1-device', slot, serial: 'vdb' };
    const part = disk({ ...description, format: 'raw', protocol: nbd, io });
    const nodes = part.options(nowhere).map((it) => ('json' in it ? it.json : undefined));
    const node = rawNode({ id: 'disk1', discard, cache });
    assert.deepEqual(
      node,
      nodes.find((it) => it?.['node-name'] === 'disk1'),
    );
  });
}
