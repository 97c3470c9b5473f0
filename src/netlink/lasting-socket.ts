import { type NetlinkOptions, NetlinkSocket } from './socket.ts';

/** A netlink socket that is opened on first use, and again after it failed. */
export class LastingSocket implements AsyncDisposable {
  readonly #options: NetlinkOptions;
  #opening: Promise<NetlinkSocket> | undefined;

  constructor(options: NetlinkOptions = {}) {
    this.#options = options;
  }

  async get(): Promise<NetlinkSocket> {
    for (;;) {
      this.#opening ??= NetlinkSocket.open(this.#options);
      const opening = this.#opening;
      const netlink = await opening.catch((error: unknown) => this.#forget(opening, error));
      if (!netlink.closed) return netlink;
      // A socket that failed stays closed; a new one may work.
      if (this.#opening === opening) this.#opening = undefined;
    }
  }

  #forget(opening: Promise<NetlinkSocket>, error: unknown): never {
    if (this.#opening === opening) this.#opening = undefined;
    throw error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const netlink = await this.#opening?.catch(() => undefined);
    await netlink?.[Symbol.asyncDispose]();
  }
}
