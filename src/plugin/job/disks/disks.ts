import { type DiskSpec, keptFile, quoted, type VmSpec } from '#spec';
import type { Report } from '../../hcl/problem.ts';
import type { Decoded, Fields } from '../../hcl/schema.ts';
import type { Job } from '../job.ts';
import { readBlock, readBus } from './block.ts';
import { type DiskBlock, diskFields } from './fields.ts';
import { nameDisks } from './names.ts';
import { oneDiskFields, oneDiskKeys, readOneDisk } from './one-disk.ts';
import { findMount } from './place.ts';

/** Both generations of keys, and those of the builtin qemu driver that are answered with these. */
export const disksFields = {
  ...oneDiskFields,
  ...diskFields,
  image_path: { kind: 'instead', use: '`image`, or `disk { source { image } }`' },
  drive_interface: { kind: 'instead', use: '`disk { bus_type }`' },
} as const satisfies Fields;

type Raw = Decoded<typeof oneDiskFields & typeof diskFields>;

export const maxDisks = 39;

/**
 * The disks of a VM, in the order of the job: at least one, and exactly one of them primary, even where problems are
 * reported.
 */
export function readDisks(raw: Raw, { arch }: Pick<VmSpec, 'arch'>, job: Job): readonly DiskSpec[] {
  const others = oneDiskKeys(raw);
  if (raw.disk.length === 0) {
    if (others.length === 0) {
      job.report(
        'disk',
        'no primary disk defined: write disk { source { image = "…" } }, or image',
      );
      // That it has no image is reported already.
      return [readOneDisk(raw, { ...job, report: () => {} })];
    }
    return [readOneDisk(raw, job)];
  }
  if (others.length > 0) {
    job.report(
      'disk',
      `can not be used together with ${others.join(', ')}: write one or the other`,
    );
  }
  if (raw.disk.length > maxDisks) {
    job.report('disk', `${raw.disk.length} disks are more than the ${maxDisks} possible`);
  }
  const blocks = possible(raw).map((block, index): DiskBlock => {
    const path = `disk[${index + 1}]`;
    return {
      raw: block,
      number: index + 1,
      report: (key, text) => job.report(`${path}.${key}`, text),
    };
  });
  return readBlocks(blocks, arch, job);
}

/** The destinations of the task's volume mounts that are disks. */
export function diskMounts(raw: Raw, { task }: Job): ReadonlySet<string> {
  return new Set(
    possible(raw).flatMap(({ volume }) => findMount(task, volume ?? '')?.taskPath ?? []),
  );
}

/** The disks that are read: each is compared with the others. */
function possible({ disk }: Raw): Raw['disk'] {
  return disk.slice(0, maxDisks);
}

function readBlocks(
  blocks: readonly DiskBlock[],
  arch: VmSpec['arch'],
  job: Job,
): readonly DiskSpec[] {
  const buses = blocks.map((block) => readBus(block, arch));
  const names = nameDisks(blocks, buses);
  const primary = findPrimary(blocks, job.report);
  const disks = blocks.map((block, index) => {
    const { [index]: bus = 'virtio' } = buses;
    const { [index]: name = '' } = names;
    return readBlock(block, { name, bus, primary: index === primary }, job);
  });
  checkShared(disks, blocks);
  return disks;
}

/** The index of the disk to boot from; the first where the job does not make it clear. */
function findPrimary(blocks: readonly DiskBlock[], report: Report): number {
  const marked = blocks.filter(({ raw }) => raw.primary);
  const possible = marked.length > 0 ? marked : blocks.filter(({ raw }) => raw.kind !== 'cdrom');
  if (marked.length > 1) {
    const numbers = marked.map(({ number }) => number).join(', ');
    report('disk', `multiple primary disks defined (disks: ${numbers})`);
  } else if (possible.length !== 1) {
    report('disk', 'no primary disk defined: set primary = true in the block of one disk');
  }
  return (possible[0]?.number ?? 1) - 1;
}

/** Reports what two disks must not have in common: their serial number, and their content. */
function checkShared(disks: readonly DiskSpec[], blocks: readonly DiskBlock[]): void {
  const serials = disks.map(({ serial, primary, name }) => serial ?? (primary ? 'primary' : name));
  const contents = disks.map(contentOf);
  for (const [index, { raw, report }] of blocks.entries()) {
    const [serial = '', content] = [serials[index], contents[index]];
    const same = serials.indexOf(serial);
    // Of two disks with one name that is the problem.
    if (same < index && disks[same]?.name !== disks[index]?.name) {
      report('serial', `${quoted(serial)} is that of disk[${same + 1}] already`);
    }
    const first = contents.indexOf(content);
    if (content !== undefined && first < index) {
      report(raw.volume ? 'volume' : 'source.nbd', `has the content of disk[${first + 1}] already`);
    }
  }
}

/** What two disks would write to at the same time; undefined for a disk that is created for the VM. */
function contentOf(disk: DiskSpec): string | undefined {
  const { place } = disk;
  if (place.kind === 'volume') return `${place.hostPath}/${keptFile(disk, place).name}`;
  return place.kind === 'nbd' ? JSON.stringify(place) : undefined;
}
