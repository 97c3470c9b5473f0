import { HostError } from '#host';
import { NetlinkError } from '#netlink';

/** Which part of a NIC's host side failed: the bridge, the tap, the address, the port rules, or the DHCP responder. */
export type NetErrorCode = 'bridge' | 'tap' | 'address' | 'rules' | 'dhcp';

export class NetError extends Error {
  override readonly name = 'NetError';
  readonly code: NetErrorCode;
  /** Whether trying again, later or elsewhere, may help. It does not for a request that is wrong in itself. */
  readonly recoverable: boolean;

  constructor(
    code: NetErrorCode,
    message: string,
    options: ErrorOptions & { readonly recoverable?: boolean } = {},
  ) {
    super(message, options);
    this.code = code;
    this.recoverable = options.recoverable ?? true;
  }
}

/**
 * Gives an error of the rooms below its meaning here. What is this room's already, a deadline's reason or a bug goes up
 * as it is.
 */
export async function inWords<T>(
  code: NetErrorCode,
  what: string,
  action: () => Promise<T>,
): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (!(cause instanceof NetlinkError || cause instanceof HostError)) throw cause;
    throw new NetError(code, `${what}: ${cause.message}`, { cause });
  }
}
