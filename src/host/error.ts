/** Which part of the host room failed; told apart by this, never by the message. */
export type HostErrorCode = 'libc' | 'spawn' | 'process' | 'undo' | 'file' | 'cgroup' | 'worker';

/** Something on this host could not be done. The message names the thing and what was being done to it. */
export class HostError extends Error {
  override readonly name = 'HostError';
  readonly code: HostErrorCode;
  /** The system's own word for the reason, e.g. `EPERM`, where it gave one. */
  readonly errno?: string;

  constructor(
    code: HostErrorCode,
    message: string,
    options: ErrorOptions & { readonly errno?: string | undefined } = {},
  ) {
    super(message, options);
    this.code = code;
    if (options.errno !== undefined) this.errno = options.errno;
  }
}

/** The errno name (`ENOENT`) an error of Node's carries; undefined for any other value. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Wraps an error of the system's: `<what>: <its message>`, with its errno name and itself as the cause. */
export function hostError(code: HostErrorCode, what: string, error: unknown): HostError {
  const reason = error instanceof Error ? error.message : String(error);
  return new HostError(code, `${what}: ${reason}`, { cause: error, errno: errnoOf(error) });
}
