/**
 * - `connect`: there is no monitor to talk to.
 * - `protocol`: the peer said something QMP does not allow; the connection is given up.
 * - `command`: QEMU refused the command; `errorClass` is its word for the kind of refusal.
 * - `closed`: the connection ended before the answer came.
 * - `timeout`: the caller's signal ended the wait. The command may still take effect.
 */
export type QmpErrorCode = 'connect' | 'protocol' | 'command' | 'closed' | 'timeout';

/** Everything that goes wrong while talking to a monitor. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly code: QmpErrorCode;
  /** QEMU's error class (`GenericError`, `DeviceNotFound`, ...), with `command` only. */
  declare readonly errorClass?: string;

  constructor(
    code: QmpErrorCode,
    message: string,
    options: ErrorOptions & { readonly errorClass?: string } = {},
  ) {
    super(message, options);
    this.code = code;
    if (options.errorClass !== undefined) this.errorClass = options.errorClass;
  }
}
