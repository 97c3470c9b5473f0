import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import type { DiskSpec, VmSpec } from '#spec';
import { diskOn } from '../support/disks.ts';
import { sectorImage } from '../support/images.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';
import { watchedMount } from '../support/watched-mount.ts';

test('what a job supplies is asked for in threads of the pool, never in that of the event loop', async (t) => {
  if (!canRunVms(t)) return;
  const { path, asked } = await watchedMount(t, [sectorImage(0)]);
  const image = join(path, basename(sectorImage(0)));
  await using ground = VmGround.open({
    imagePaths: [path, join(sectorImage(0), '..')],
    pools: { pools: [{ kind: 'directory', name: 'far', path }], default: undefined },
  });
  const virtualizer = ground.virtualizer();
  const boot = diskOn(sectorImage(0), 1, false);
  const { source: _, ...blank } = boot;
  const second: DiskSpec = { ...blank, block: 2, name: 'vdb', primary: false };
  const volume = { kind: 'volume', hostPath: path, readOnly: false } as const;
  const cases: Readonly<Record<string, Partial<VmSpec>>> = {
    'copied image': { disks: [diskOn(image, 1, false)] },
    'thin image': { disks: [diskOn(image, 1)] },
    pool: { disks: [{ ...boot, place: { kind: 'pool', pool: 'far' } }] },
    'disk in a volume': { disks: [boot, { ...second, place: volume }] },
    'allocated disk in a volume': {
      disks: [boot, { ...second, name: 'vdc', place: volume, sparse: false }],
    },
    'volume in the guest': {
      shares: [{ tag: 'data', source: path, target: '/data', readOnly: true, volume: true }],
    },
  };
  for (const [what, changes] of Object.entries(cases)) {
    await t.test(what, async () => {
      const before = asked();
      const domain = await virtualizer.createDomain(ground.spec(0, changes), soon(60_000));
      await virtualizer.destroyDomain(domain.name);
      await stat(path);
      const after = asked();
      assert.ok(after.inAll > before.inAll);
      assert.deepEqual(after.onLoop.slice(before.onLoop.length), []);
    });
  }
});
