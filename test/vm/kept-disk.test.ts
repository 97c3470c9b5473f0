import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { ImageStore } from '#image';
import { type DiskSpec, primaryDisk } from '#spec';
import { checkKeptDisk } from '../../src/vm/disks/kept-disk.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect, eventually } from '../support/vm.ts';

const waiting = () => ({ signal: AbortSignal.timeout(10_000) });

function openTo(path: string): number {
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // that of the listing itself
    }
  });
  return targets.filter((target) => target === path).length;
}

test('V-52: a disk in a volume that can not be read is an error of its key, and does not stay open', async (t) => {
  const images = new ImageStore({ dir: `${tmpDir(t)}/images`, maxBytes: 0, log: collect([]) });
  const files = { trusted: [], task: [], relativeTo: [] };
  const pools = { pools: [], default: undefined };
  const host = { files, pools, images, maxImageBytes: 2 ** 40 };
  // A regular file whose first page no process has: reading it fails with EIO, as from a broken disk.
  const hostPath = `/proc/${process.pid}`;
  const place = { kind: 'volume', hostPath, readOnly: true, file: 'mem' } as const;
  const { source: _, ...plain } = primaryDisk({ image: '', thin: false });
  const spec: DiskSpec = { ...plain, block: 2, place, format: 'raw' };
  await assert.rejects(checkKeptDisk(spec, place, host, waiting()), {
    message: `disk[2].volume: reading ${hostPath}/mem: EIO: i/o error, read`,
  });
  await eventually(() => openTo(`${hostPath}/mem`) === 0, 'a closed file', 2000);
});
