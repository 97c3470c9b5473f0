/**
 * `unsupported`: what was asked for does not exist in this QEMU, whatever the host. `unavailable`: QEMU, or something
 * that it needs, is missing or broken on this host, which may be put right at any time.
 */
export type QemuErrorCode = 'unsupported' | 'unavailable';

export class QemuError extends Error {
  override readonly name = 'QemuError';
  readonly code: QemuErrorCode;
  /** Whether trying again, later or on another host, may help. */
  readonly recoverable: boolean;

  constructor(code: QemuErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.recoverable = code === 'unavailable';
  }
}
