/**
 * - `connect`: nothing listens at the monitor's socket.
 * - `protocol`: the peer sent something that QMP does not allow; the session is over.
 * - `command`: QEMU or the guest agent refused the command, for the reason in the message.
 * - `closed`: the connection ended before the answer came.
 * - `timeout`: the caller's signal aborted. The command may still take effect.
 */
export type QmpErrorCode = 'connect' | 'protocol' | 'command' | 'closed' | 'timeout';

/** A session with a monitor or a guest agent, or one command in it, failed. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
  readonly code: QmpErrorCode;

  constructor(code: QmpErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
