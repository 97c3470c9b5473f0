const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

/** How much one QEMU may use of the resources that all processes of the host share. */
export interface QemuLimits {
  readonly openFiles: number;
  /** Processes and threads of its user, which no other VM has. */
  readonly processes: number;
}

/** QEMU itself has some dozens open; with 9p, each file that the guest has open is one more. */
const openFiles = 4096;

/**
 * QEMU's own threads, and 64 for each of its thread pools for file I/O. More than it needs: QEMU aborts when it cannot
 * create a thread.
 */
const threadsBesideVcpus = 256;

/** `others`: threads that the kernel adds to QEMU; they count as its user's as well. */
export function qemuLimits(vcpus: number, others = 0): QemuLimits {
  return { openFiles, processes: vcpus + others + threadsBesideVcpus };
}

/** Between two checks of the plugin a file that QEMU appends to grows by less than this: by what its tmpfs holds. */
const headroomBytes = 64 * MiB;

/**
 * Maximum length of a file of QEMU: the size of its largest disk, or the length of the longest file that it appends to
 * and that the plugin empties from the front, rounded up to whole GiB.
 */
export function maxFileBytes(diskBytes: number, appendedBytes: number): number {
  return Math.max(diskBytes, Math.ceil((appendedBytes + headroomBytes) / GiB) * GiB);
}
