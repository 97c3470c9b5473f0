/** `open`: no socket; `request`: the kernel said no (see errno); `closed`: the socket went away; `protocol`: an answer that makes no sense. */
export type NetlinkErrorCode = 'open' | 'request' | 'closed' | 'protocol';

/** Everything that can go wrong with netlink. `errno` is the kernel's name for it, e.g. `EEXIST`. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError';
  readonly code: NetlinkErrorCode;
  readonly errno: string | undefined;

  constructor(
    code: NetlinkErrorCode,
    message: string,
    options?: ErrorOptions & { errno?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.errno = options?.errno;
  }
}
