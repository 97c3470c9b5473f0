import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { DiskSpec, VmSpec } from '#spec';
import { askVm } from '#vm';
import { diskOn } from '../support/disks.ts';
import { sectorImage } from '../support/images.ts';
import { tmpDir } from '../support/tmp.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';
import { watchedMount } from '../support/watched-mount.ts';

test('what a job supplies is asked for in threads of the pool, never in that of the event loop', async (t) => {
  if (!canRunVms(t)) return;
  const packed = join(tmpDir(t), 'packed.gz');
  const content = gzipSync(readFileSync(sectorImage(0)));
  await writeFile(packed, content);
  const { path, asked } = await watchedMount(t, [sectorImage(0), packed]);
  const image = join(path, basename(sectorImage(0)));
  const files = join(path, 'files');
  await mkdir(join(files, 'below'), { recursive: true });
  await writeFile(join(files, 'below/text'), 'for the guest');
  const hex = createHash('sha256').update(content).digest('hex');
  const summedUp = {
    kind: 'image',
    image: join(path, 'packed.gz'),
    checksum: { algorithm: 'sha256', hex },
  } as const;
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
    'packed image with a checksum': { disks: [{ ...boot, source: summedUp }] },
    'files of a directory': {
      disks: [boot, { ...second, source: { kind: 'directory', directory: files, label: 'FILES' } }],
    },
    pool: { disks: [{ ...boot, place: { kind: 'pool', pool: 'far' } }] },
    'disk in a volume': { disks: [boot, { ...second, place: volume }] },
    'allocated disk in a volume': {
      disks: [boot, { ...second, name: 'vdc', place: volume, sparse: false }],
    },
    'volume in the guest': {
      shares: [{ tag: 'data', source: path, target: '/data', readOnly: true, volume: true }],
    },
  };
  const backUp = async (): Promise<void> => {
    const { dataDir } = ground.options;
    const request = { command: 'backup', disk: 'vda', path: join(path, 'backup.qcow2') } as const;
    const task = { alloc: '6b8e3a5e', task: 'task' };
    await askVm({ dataDir, task, request, onProgress: () => {} }, soon(60_000));
  };
  for (const [what, changes] of Object.entries({ ...cases, 'backup of a disk': {} })) {
    await t.test(what, async () => {
      const before = asked();
      const domain = await virtualizer.createDomain(ground.spec(0, changes), soon(60_000));
      if (what === 'backup of a disk') await backUp();
      await virtualizer.destroyDomain(domain.name);
      await stat(path);
      const after = asked();
      assert.ok(after.inAll > before.inAll);
      assert.deepEqual(after.onLoop.slice(before.onLoop.length), []);
    });
  }
});
