import { isAbsolute } from 'node:path';
import { maxQcow2Bytes, maxQcow2TableBytes } from '#image';
import { throttleNode } from '#qemu';
import type { BlockNode } from '#qmp';
import { wholeSectors } from '#spec';
import { VmError } from '../error.ts';
import type { RecordedDisk } from '../store/device-record.ts';

export interface Growth {
  /** The node whose size the guest sees. */
  readonly node: string;
  readonly virtualBytes: number;
  /** Maximum length of the disk's file from now on; 0 where it is no file. */
  readonly maxFileBytes: number | undefined;
  /** What is allocated of the file before, where all of it is. */
  readonly allocatedBytes: number | undefined;
}

/** The disk of this name. Throws VmError that names those there are. */
export function diskNamed(disks: readonly RecordedDisk[], wanted: string): RecordedDisk {
  const found = disks.find((it) => nameOf(it) === wanted);
  if (found !== undefined) return found;
  throw new VmError('host', `the VM has no disk ${wanted}; it has ${disks.map(nameOf).join(', ')}`);
}

function nameOf({ id, name = id }: RecordedDisk): string {
  return name;
}

/** A disk as QEMU has it. Throws VmError where it has it no more. */
export function shownNode(
  disk: RecordedDisk,
  nodes: readonly BlockNode[],
): { readonly virtualBytes: number; readonly readOnly: boolean } {
  const own = nodes.find((it) => it['node-name'] === disk.id);
  const virtualBytes = own?.image?.['virtual-size'];
  if (own !== undefined && virtualBytes !== undefined) {
    return { virtualBytes, readOnly: own.ro === true };
  }
  throw new VmError('host', `QEMU does not know the disk ${nameOf(disk)}`);
}

/** How a disk becomes larger; undefined where it has the size. Throws VmError where it can't have it. */
export function planGrowth(
  disk: RecordedDisk,
  nodes: readonly BlockNode[],
  { bytes, maxBytes }: { readonly bytes: number; readonly maxBytes: number },
): Growth | undefined {
  const { id } = disk;
  const { virtualBytes: now, readOnly } = shownNode(disk, nodes);
  if (readOnly) throw new VmError('host', `the disk ${nameOf(disk)} is read-only`);
  const virtualBytes = wholeSectors(bytes);
  if (virtualBytes < now) {
    throw new VmError('host', `it has ${now} bytes already; a disk can't become smaller`);
  }
  checkMaximum(virtualBytes, maxBytes);
  if (virtualBytes === now) return undefined;
  const throttle = throttleNode(id);
  return {
    node: nodes.some((it) => it['node-name'] === throttle) ? throttle : id,
    virtualBytes,
    maxFileBytes: grownFile(disk, virtualBytes, virtualBytes - now),
    allocatedBytes: disk.allocated === true ? fullFileBytes(disk, virtualBytes) : undefined,
  };
}

/** What has to be done first where QEMU itself can't make a disk larger. */
export function growthRemedy({ path, maxFileBytes, nbd }: RecordedDisk): readonly string[] {
  if (nbd !== undefined) {
    return [
      'QEMU knows the size that the export had when it connected: make the export larger, restart its server, and repeat this',
    ];
  }
  const isDevice = maxFileBytes === 0 && isAbsolute(path);
  return isDevice ? ['make the device larger on the host, and repeat this'] : [];
}

function fullFileBytes({ format }: RecordedDisk, virtualBytes: number): number {
  return format === 'raw' ? virtualBytes : maxQcow2Bytes(virtualBytes);
}

/** Also of a size that QEMU reports, which a taken-over one chooses. */
export function checkMaximum(virtualBytes: number, maxBytes: number): void {
  if (virtualBytes <= maxBytes) return;
  const text = `${virtualBytes} bytes are more than ${maxBytes}, the maximum of a disk: raise limits.max_disk_mb of the plugin`;
  throw new VmError('host', text);
}

function grownFile(
  { format, maxFileBytes }: RecordedDisk,
  virtualBytes: number,
  moreBytes: number,
): number | undefined {
  if (maxFileBytes === undefined || maxFileBytes === 0) return maxFileBytes;
  if (format === 'raw') return Math.max(maxFileBytes, virtualBytes);
  return maxFileBytes + moreBytes + maxQcow2TableBytes(moreBytes);
}
