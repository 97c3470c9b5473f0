/** A request to the kernel over netlink failed. `errno` is the reason of a refusal, e.g. `EEXIST`. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError';
  readonly errno: string | undefined;

  constructor(message: string, options?: ErrorOptions & { errno?: string | undefined }) {
    super(message, options);
    this.errno = options?.errno;
  }
}
