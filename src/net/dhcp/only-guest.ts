import { within } from '#host';
import { parseIpv6, type Waiting } from '#spec';
import { type Claim, linkLocalsOf } from '../store/claim.ts';

interface Options {
  readonly claim: Claim;
  /** The link-local addresses that the rules have noted beside that of its MAC address. */
  readonly noted: (waiting: Waiting) => Promise<readonly string[]>;
}

const freshMs = 1000;
const readMs = 5000;

/** The one guest behind a tap in an allocation's namespace, as its IPv6 questions show it. */
export class OnlyGuest implements Disposable {
  readonly #options: Options;
  readonly #own: bigint | undefined;
  readonly #closing = new AbortController();
  #known: Claim;
  #read: { readonly claim: Promise<Claim>; readonly atMs: number } | undefined;

  constructor(options: Options) {
    this.#options = options;
    this.#known = options.claim;
    this.#own = parseIpv6(options.claim.ip6 ?? '');
  }

  /** By the link-local addresses that it has asked with before, and that of its MAC address. */
  async all(): Promise<ReadonlyMap<bigint, Claim>> {
    return new Map(linkLocalsOf(this.#known).map((address) => [address, this.#known]));
  }

  /** The rules replace the sender of its questions by its address of the network. */
  async of(asker: bigint): Promise<Claim | undefined> {
    if (asker !== this.#own) return undefined;
    const fresh = this.#read;
    if (fresh !== undefined && performance.now() - fresh.atMs < freshMs) return fresh.claim;
    const reading = { claim: this.#now(), atMs: performance.now() };
    this.#read = reading;
    return reading.claim;
  }

  async #now(): Promise<Claim> {
    const { claim, noted } = this.#options;
    using limited = within(readMs, this.#closing);
    this.#known = { ...claim, linkLocals: await noted(limited) };
    return this.#known;
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
  }
}
