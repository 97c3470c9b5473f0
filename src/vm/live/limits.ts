import type { DiskPlan } from '../start/plan.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

/** What one QEMU may take of what all processes of the host share. */
export interface QemuLimits {
  readonly openFiles: number;
  /** Of its user, which no other VM has: each thread counts. */
  readonly processes: number;
  /** No file of its own that holds a disk becomes longer. */
  readonly diskBytes: number;
}

/** Its descriptors are some dozens; over 9p each file that the guest has open is one more. */
const openFiles = 4096;

/** QEMU's own threads, and 64 for each of its pools that wait for files. More than it needs: without one it aborts. */
const threadsBesideVcpus = 256;

export function planLimits(
  vcpus: number,
  disk: Pick<DiskPlan, 'kind' | 'format' | 'virtualBytes'>,
  imageBytes: number,
): QemuLimits {
  return {
    openFiles,
    processes: vcpus + threadsBesideVcpus,
    diskBytes: longestDisk(disk, imageBytes),
  };
}

/**
 * qcow2 keeps its tables in the file: up to 16 bytes for each cluster, which has at least 512. In a copy a new cluster
 * may be taken for each one of the disk while what the image had stays (compressed clusters are never written to).
 */
function longestDisk(
  { kind, format, virtualBytes }: Pick<DiskPlan, 'kind' | 'format' | 'virtualBytes'>,
  imageBytes: number,
): number {
  if (format === 'raw') return virtualBytes;
  const data = virtualBytes + (kind === 'copy' ? imageBytes : 0);
  return data + Math.ceil(data / 16) + 64 * MiB;
}

/** Between two looks of the plugin a file that QEMU appends to grows by what its tmpfs holds, which is less. */
const headroomBytes = 64 * MiB;

/**
 * How long a file of QEMU may become: as its disk, or as the longest of those that it appends to and that the plugin
 * empties from the front, in whole GiB.
 */
export function longestFile(diskBytes: number, appendedBytes: number): number {
  return Math.max(diskBytes, Math.ceil((appendedBytes + headroomBytes) / GiB) * GiB);
}
