export type VmErrorCode =
  | 'spec'
  | 'emulator'
  | 'image'
  | 'seed'
  | 'network'
  | 'share'
  | 'host'
  | 'spawn'
  | 'boot'
  | 'recover'
  | 'stop'
  | 'destroy';

/** What went wrong with a VM, in the reader's words; `recoverable` says whether trying again may help. */
export class VmError extends Error {
  override readonly name = 'VmError';
  readonly code: VmErrorCode;
  readonly recoverable: boolean;

  constructor(
    code: VmErrorCode,
    message: string,
    options: ErrorOptions & { readonly recoverable?: boolean } = {},
  ) {
    super(message, options);
    this.code = code;
    this.recoverable = options.recoverable ?? false;
  }
}

/** The text of whatever was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
