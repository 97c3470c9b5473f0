import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { UndoLog } from '#host';
import { ImageStore } from '#image';
import { primaryDisk } from '#spec';
import { createIn } from '../../src/vm/disks/pool.ts';
import { vmPaths } from '../../src/vm/store/paths.ts';
import { Remover } from '../../src/vm/store/remove.ts';
import { decodeVmUndo, undoStep, type VmUndo } from '../../src/vm/store/undo.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host } from '../support/networks.ts';
import { SmallDisk } from '../support/small-disk.ts';
import { collect, uidRange } from '../support/vm.ts';

inOwnNetns(import.meta.url, ['mkfs.ext4', 'mkfs.xfs'], () => {
  for (const kind of ['ext4 with blocks of 4 KiB', 'XFS'] as const) {
    test(`V-98 V-51: after a power cut on ${kind} the removal of a VM finds its disk in a pool elsewhere`, async () => {
      const root = mkdtempSync(join(tmpdir(), 'power-cut-'));
      try {
        await using disk = await SmallDisk.mount(kind, root);
        await using net = await Host.open();
        const [dataDir, runDir, log] = [join(disk.path, 'data'), join(root, 'run'), collect([])];
        const pools = { pools: [], default: undefined };
        const images = new ImageStore({ dir: join(dataDir, 'image-store'), maxBytes: 0, log });
        const { networks } = net;
        const limits = { uidRange, maxImageBytes: 2 ** 40, imagePaths: [] };
        const host = { ...{ dataDir, runDir, pools, images, networks, log }, ...limits };
        const paths = vmPaths('vm-0', dataDir, runDir);
        mkdirSync(paths.dir, { recursive: true });
        const { log: undo, held } = await UndoLog.make<VmUndo>(
          paths.undo,
          (step, rollback) => undoStep(step, host, rollback),
          { decode: decodeVmUndo, log },
        );
        undo.keep();
        await undo.note({ kind: 'mount', target: paths.run });
        const pool = { kind: 'directory', name: 'fast', path: join(root, 'pool') } as const;
        const spec = primaryDisk({ image: '', thin: false });
        const site = { vm: 'vm-0', paths, undo };
        const path = await createIn(pool, spec, site, (it) => writeFileSync(it, 'disk'));
        held[Symbol.dispose]();
        await undo.note({ kind: 'mount', target: `${paths.run}/later` });
        await disk.cutPower();
        assert.ok(existsSync(path));
        await new Remover(host).remove('vm-0');
        assert.deepEqual(readdirSync(join(pool.path, 'vms')), []);
      } finally {
        rmSync(root, { recursive: true });
      }
    });
  }
});
