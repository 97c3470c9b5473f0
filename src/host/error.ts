/**
 * - `system`: the system refused or failed; `errno` is its reason, where it gave one.
 * - `worker-limit`: the data took a worker more time or memory than it may use.
 */
export type HostErrorCode = 'system' | 'worker-limit';

/** An operation on this host failed. The message names the operation and its object. */
export class HostError extends Error {
  override readonly name = 'HostError';
  readonly code: HostErrorCode;
  /** The system's name for the reason, e.g. `EPERM`. */
  readonly errno?: string;

  constructor(
    message: string,
    options: ErrorOptions & {
      readonly code?: HostErrorCode;
      readonly errno?: string | undefined;
    } = {},
  ) {
    super(message, options);
    this.code = options.code ?? 'system';
    if (options.errno !== undefined) this.errno = options.errno;
  }
}

/** The errno name (`ENOENT`) of a HostError or of Node's own error; undefined for any other value. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof HostError) return error.errno;
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** Wraps an error of the system: `<what>: <its message>`, with its errno name and itself as the cause. */
export function hostError(what: string, error: unknown): HostError {
  const reason = error instanceof Error ? error.message : String(error);
  return new HostError(`${what}: ${reason}`, { cause: error, errno: errnoOf(error) });
}
