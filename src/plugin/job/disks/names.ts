import { type DiskBus, quoted } from '#spec';
import type { DiskBlock } from './fields.ts';

/**
 * The name of each disk: as in the job, or that of the device that its volume becomes, else generated. Reports names that
 * are none and names that two disks have.
 */
export function nameDisks(
  blocks: readonly DiskBlock[],
  buses: readonly DiskBus[],
): readonly string[] {
  const wanted = blocks.map(({ raw }) => raw.devname || deviceName(raw.volume));
  for (const [index, block] of blocks.entries()) check(block, wanted, index);
  const taken = new Set(wanted.filter((name) => name !== undefined));
  return blocks.map((_block, index) => {
    const name = wanted[index] ?? nextName(buses[index] === 'virtio' ? 'vd' : 'sd', taken);
    taken.add(name);
    return name;
  });
}

/** `/dev/vdb` is the way to name a disk where volumes are devices. */
function deviceName(volume: string | undefined): string | undefined {
  return /^\/dev\/(?:.*\/)?([^/]+)\/*$/.exec(volume ?? '')?.[1];
}

function check(
  { raw, report }: DiskBlock,
  wanted: readonly (string | undefined)[],
  index: number,
): void {
  const name = wanted[index];
  if (name === undefined) return;
  const key = raw.devname ? 'devname' : 'volume';
  const shown = quoted(name);
  if (!/^[A-Za-z][A-Za-z0-9_-]{0,14}$/.test(name)) {
    const rule = 'at most 15 letters, digits, dashes and underscores, the first a letter';
    report(key, `${shown} is not a name for a disk (${rule}); set devname to another one`);
  }
  const first = wanted.indexOf(name);
  if (first < index) report(key, `${shown} is the name of disk[${first + 1}] already`);
}

/** The first that is free. */
function nextName(prefix: string, taken: ReadonlySet<string>): string {
  let number = 1;
  while (taken.has(diskName(prefix, number))) number += 1;
  return diskName(prefix, number);
}

/** The name of the disk with this number, from 1 on, past `z` as the kernel counts: `vdz`, `vdaa`. */
export function diskName(prefix: string, number: number): string {
  return prefix + letters(number);
}

function letters(number: number): string {
  if (number === 0) return '';
  const rest = (number - 1) % 26;
  return letters((number - 1 - rest) / 26) + String.fromCharCode(97 + rest);
}
