const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

/** What one QEMU may take of what all processes of the host share. */
export interface QemuLimits {
  readonly openFiles: number;
  /** Of its user, which no other VM has: each thread counts. */
  readonly processes: number;
}

/** Its descriptors are some dozens; over 9p each file that the guest has open is one more. */
const openFiles = 4096;

/** QEMU's own threads, and 64 for each of its pools that wait for files. More than it needs: without one it aborts. */
const threadsBesideVcpus = 256;

export function qemuLimits(vcpus: number): QemuLimits {
  return { openFiles, processes: vcpus + threadsBesideVcpus };
}

/** Between two looks of the plugin a file that QEMU appends to grows by what its tmpfs holds, which is less. */
const headroomBytes = 64 * MiB;

/**
 * How long a file of QEMU may become: as its largest disk, or as the longest of those that it appends to and that the
 * plugin empties from the front, in whole GiB.
 */
export function longestFile(diskBytes: number, appendedBytes: number): number {
  return Math.max(diskBytes, Math.ceil((appendedBytes + headroomBytes) / GiB) * GiB);
}
