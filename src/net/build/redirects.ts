import { type Logger, within } from '#host';
import type { NetlinkSocket } from '#netlink';
import type { Claim } from '../store/claim.ts';
import { redirectFlows } from './ports.ts';

/** After a start is over. */
const laterMs = 250;
const withinMs = 10_000;

/**
 * Ends connections to the ports of VMs that were just started, where they are older than the rules of the ports. Not during
 * a start: the search takes the kernel 9 ms, while QEMU needs the processor and the event loop waits. One search serves all
 * that started in the meantime.
 */
export class Redirects implements AsyncDisposable {
  readonly #netlink: () => Promise<NetlinkSocket>;
  readonly #log: Logger;
  #claims: Claim[] = [];
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(netlink: () => Promise<NetlinkSocket>, log: Logger) {
    this.#netlink = netlink;
    this.#log = log;
  }

  /** Its rules are in place. */
  add(claim: Claim): void {
    if (claim.ports.length === 0) return;
    this.#claims.push(claim);
    this.#timer ??= setTimeout(() => this.#begin(), laterMs).unref();
  }

  /** Does at once what is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#claims.length > 0) this.#begin();
    await this.#running;
  }

  #begin(): void {
    this.#timer = undefined;
    const claims = this.#claims;
    this.#claims = [];
    this.#running = this.#running.then(() => this.#end(claims));
  }

  async #end(claims: readonly Claim[]): Promise<void> {
    using limited = within(withinMs);
    try {
      await redirectFlows(claims, { netlink: await this.#netlink(), log: this.#log }, limited);
    } catch (error) {
      this.#log.warn('older connections to published ports were not ended', { error });
    }
  }
}
