/**
 * `unsupported`: this QEMU does not have what the job needs, whatever the host. `unavailable`: QEMU, or something that
 * it needs, is missing or broken on this host, which may be repaired at any time.
 */
export type QemuErrorCode = 'unsupported' | 'unavailable';

export class QemuError extends Error {
  override readonly name = 'QemuError';
  readonly code: QemuErrorCode;
  /** Whether a retry, later or on another host, may succeed. */
  readonly recoverable: boolean;

  constructor(code: QemuErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.recoverable = code === 'unavailable';
  }
}
