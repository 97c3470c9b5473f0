import { HostError } from '#host';
import { NetlinkError } from '#netlink';

/** `job`: the request is wrong in itself. `host`: this host lacks something or failed, and a retry may succeed. */
export type NetErrorCode = 'job' | 'host';

export class NetError extends Error {
  override readonly name = 'NetError';
  readonly code: NetErrorCode;

  constructor(code: NetErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  /** Whether trying again, later or on another host, may help. */
  get recoverable(): boolean {
    return this.code === 'host';
  }
}

/**
 * Turns an error of the rooms below into a NetError `host`: `what`, which states that something failed, and the reason.
 * A NetError, a deadline's reason or a bug is passed on unchanged.
 */
export async function asNetError<T>(what: string, action: () => T | Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (!(cause instanceof NetlinkError || cause instanceof HostError)) throw cause;
    throw netError(what, cause);
  }
}

/** A NetError `host` of what failed, with the reason that `cause` gives. */
export function netError(what: string, cause: unknown): NetError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new NetError('host', `${what}: ${reason}`, { cause });
}
