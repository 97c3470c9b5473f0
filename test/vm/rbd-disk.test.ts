import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImageStore } from '#image';
import { primaryDisk } from '#spec';
import { checkRbdDisk } from '../../src/vm/disks/rbd-disk.ts';
import { unreachablePool } from '../support/ceph.ts';
import { siteIn } from '../support/site.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect } from '../support/vm.ts';

const soon = () => ({ signal: AbortSignal.timeout(10_000) });

test('V-46 V-139: a cluster that is not reached is an error of the key, in the check and in the start', async (t) => {
  const root = tmpDir(t);
  const pool = unreachablePool(t);
  const images = new ImageStore({ dir: `${root}/images`, maxBytes: 0, log: collect([]) });
  const files = { trusted: [], task: [], relativeTo: [] };
  const pools = { pools: [pool], default: undefined };
  const host = { files, pools, images, maxImageBytes: 2 ** 40 };
  const { source: _, ...plain } = primaryDisk({ image: '', thin: false });
  const spec = {
    ...plain,
    block: 2,
    place: { kind: 'pool', pool: 'far' },
    sizeBytes: 512,
  } as const;
  const reason = "couldn't connect to the cluster!";
  const cloned = { ...spec, source: { kind: 'volume', volume: 'golden' } } as const;
  await assert.rejects(checkRbdDisk(cloned, pool, host, soon()), {
    message: `disk[2].source.volume: rbd info: ${reason}`,
  });
  using disk = await checkRbdDisk(spec, pool, host, soon());
  await using site = await siteIn(root);
  const seat = {
    id: 'disk-1',
    base: 'base-1',
    device: 'virtio',
    slot: { driver: 'virtio-blk-pci' },
    bootIndex: undefined,
  } as const;
  await assert.rejects(disk.prepare(seat, site, soon()), {
    message: `disk[2].pool: rbd create: ${reason}`,
  });
});
