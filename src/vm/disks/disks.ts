import { together } from '#host';
import type { MachinePlan } from '#qemu';
import { plugDisks } from '#qemu';
import { type DiskSpec, diskKey, type Waiting } from '#spec';
import type { Prepared, Site } from '../devices/device.ts';
import { VmError } from '../error.ts';
import { checkDirectoryDisk } from './directory-disk.ts';
import type { CheckedDisk, DiskHost, DiskSeat } from './disk.ts';
import { checkFileDisk } from './file-disk.ts';
import { checkNbdDisk } from './nbd/nbd-disk.ts';
import { poolOf } from './pool.ts';
import { checkRbdDisk } from './rbd-disk.ts';
import { checkVolumeDisk } from './volume-disk.ts';

/** Checks one disk, wherever its content is kept. Throws VmError naming the key that is wrong. */
export async function checkDisk(
  spec: DiskSpec,
  host: DiskHost,
  waiting: Waiting,
): Promise<CheckedDisk> {
  const { place, source } = spec;
  if (source?.kind === 'directory') return checkDirectoryDisk(spec, source, host, waiting);
  if (place.kind === 'volume') return checkVolumeDisk(spec, place, host, waiting);
  if (place.kind === 'nbd') return checkNbdDisk(spec, place, waiting);
  const pool = poolOf(spec, host);
  if (pool?.kind === 'ceph') return checkRbdDisk(spec, pool, host, waiting);
  return checkFileDisk(spec, pool, host, waiting);
}

/** Every disk that the machine has no place for, by its key. */
export function diskPlaceProblems(
  disks: readonly DiskSpec[],
  { family }: Pick<MachinePlan, 'family'>,
): readonly VmError[] {
  return plugDisks(inOrder(disks), family).problems.map(({ index, key, text }) => {
    const spec = inOrder(disks)[index];
    return new VmError('job', `${spec === undefined ? key : diskKey(spec, key)}: ${text}`);
  });
}

/** Every disk that is the same as one before it, by whatever path, and that one of them may write to. */
export function sharedDiskProblems(disks: readonly CheckedDisk[]): readonly VmError[] {
  return disks.flatMap(({ spec, content }, index) => {
    if (content === undefined) return [];
    const first = disks.slice(0, index).find((other) => other.content === content)?.spec;
    if (first === undefined || (first.readOnly && spec.readOnly)) return [];
    const text = `is the disk of ${diskKey(first, 'volume')} as well`;
    return [new VmError('job', `${diskKey(spec, 'volume')}: ${text}`)];
  });
}

/**
 * Creates every disk, at the same time. In the order of the result, which determines their names in the guest: the
 * primary disk is the first, controllers come before their disks.
 */
export async function prepareDisks(
  disks: readonly CheckedDisk[],
  { family, firstBootIndex }: Pick<MachinePlan, 'family'> & { readonly firstBootIndex: number },
  site: Site,
  waiting: Waiting,
): Promise<readonly Prepared[]> {
  const ordered = disks.toSorted((a, b) => rank(a.spec) - rank(b.spec));
  const { slots, controllers } = plugDisks(
    ordered.map(({ spec }) => spec),
    family,
  );
  const prepared = await together(
    ordered.map((disk, index) => {
      const slot = slots[index];
      if (slot === undefined) throw new Error(`disk ${disk.spec.name} was not checked`);
      const bootIndex = firstBootIndex + index;
      return disk.prepare({ ...seatOf(index), bootIndex, slot }, site, waiting);
    }),
  );
  return prepared.flatMap((disk, index) => [
    ...controllers
      .filter(({ before }) => before === index)
      .map(
        ({ part, model }): Prepared => ({
          part,
          record: { kind: 'emulated', id: part.id, model },
        }),
      ),
    disk,
  ]);
}

function inOrder(disks: readonly DiskSpec[]): readonly DiskSpec[] {
  return disks.toSorted((a, b) => rank(a) - rank(b));
}

/** The primary disk first, the others as in the job. */
function rank({ primary }: DiskSpec): number {
  return primary ? 0 : 1;
}

/** The first disk keeps the ids that it had when there was only one. */
function seatOf(index: number): Omit<DiskSeat, 'slot' | 'bootIndex'> {
  return {
    id: index === 0 ? 'disk' : `disk-${index}`,
    device: `disk${index}`,
    base: index === 0 ? 'base' : `base-${index}`,
  };
}
