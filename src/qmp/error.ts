/**
 * - `connect`: there is no monitor to talk to.
 * - `protocol`: the peer said something QMP does not allow; the connection is given up.
 * - `command`: QEMU or the guest agent refused the command, for the reason in the message.
 * - `closed`: the connection ended before the answer came.
 * - `timeout`: the caller's signal ended the wait. The command may still take effect.
 */
export type QmpErrorCode = 'connect' | 'protocol' | 'command' | 'closed' | 'timeout';

/** Everything that goes wrong while talking to a monitor. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly code: QmpErrorCode;

  constructor(code: QmpErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
