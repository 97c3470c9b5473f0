/** QEMU, or something that comes with it, can not be used on this host. */
export class QemuError extends Error {
  override readonly name = 'QemuError';
  /** The program may be repaired or installed at any time. */
  readonly recoverable = true;
}
