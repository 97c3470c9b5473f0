import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { diskOn } from '../support/disks.ts';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { tmpDir } from '../support/tmp.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

const MiB = 1024 * 1024;

inOwnNetns(import.meta.url, ['mount'], () => {
  test('V-51 V-99: a full copy that finds no room fails the start, leaves nothing, and harms no other VM', async (t) => {
    if (!canRunVms(t)) return;
    await using ground = VmGround.open();
    const { dataDir } = ground.options;
    const [volume, local] = [tmpDir(t), join(ground.taskDir, 'local')];
    for (const dir of [dataDir, local]) mkdirSync(dir, { recursive: true });
    const image = join(local, 'image.raw');
    writeFileSync(image, randomBytes(16 * MiB));
    for (const dir of [dataDir, volume])
      await must('mount', '-t', 'tmpfs', '-o', 'size=8m,mode=711', 'tmpfs', dir);
    const virtualizer = ground.virtualizer();
    const other = await virtualizer.createDomain(ground.spec(0, { name: 'vm-1' }), soon(60_000));
    const before = readdirSync(dataDir, { recursive: true });
    const source = { kind: 'image', image } as const;
    const second = { ...diskOn(image, 16, false), block: 2, name: 'vdb', primary: false, source };
    const place = { kind: 'volume', hostPath: volume, readOnly: false } as const;
    for (const disk of [second, { ...second, place, format: 'raw' as const }]) {
      const spec = ground.spec(0);
      const start = virtualizer.createDomain(
        { ...spec, disks: [...spec.disks, disk] },
        soon(60_000),
      );
      await assert.rejects(start, {
        code: 'host',
        recoverable: true,
        message:
          /^disk\[2\]\.source\.image: creating \/\S+vdb\.(img|raw): copying \S+image\.raw: ENOSPC/,
      });
      assert.deepEqual(readdirSync(dataDir, { recursive: true }), before);
      assert.deepEqual(readdirSync(volume), []);
    }
    assert.equal(other.state, 'running');
    await virtualizer.destroyDomain('vm-1');
    for (const dir of [dataDir, volume]) await must('umount', dir);
  });
});
