/** `seed`: a value cannot be put into the seed without changing it. */
export type CloudInitErrorCode = 'seed';

export class CloudInitError extends Error {
  override readonly name = 'CloudInitError';
  readonly code: CloudInitErrorCode;
  constructor(code: CloudInitErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
