import { within } from '#host';
import type { Waiting } from '#spec';
import type { Claim } from '../store/claim.ts';
import type { KnownGuests } from '../store/known-guests.ts';

/** Makes a link-local address that a guest chose its own, where it may have it. */
export type Admit = (
  newcomer: { readonly bridge: string; readonly address: bigint },
  waiting: Waiting,
) => Promise<void>;

interface Guests6Options {
  readonly bridge: string;
  /** The network's NICs by their link-local addresses. */
  readonly known: KnownGuests<ReadonlyMap<bigint, Claim>>;
  readonly admit: Admit;
}

// More than guests begin to use at once in normal operation. The rest is dropped, and they ask again.
const maxWaiting = 16;
// A guest asks again after some seconds.
const admitMs = 5000;
const linkLocalPrefix = 0xfe80n << 48n;

/** The guests of a bridge, as their IPv6 questions show them: by the link-local address that they ask with. */
export class Guests6 implements Disposable {
  readonly #options: Guests6Options;
  /** By their addresses: those about which it is not decided yet. */
  readonly #waiting = new Map<bigint, Promise<void>>();
  readonly #closing = new AbortController();
  #last: Promise<void> = Promise.resolve();

  constructor(options: Guests6Options) {
    this.#options = options;
  }

  async all(): Promise<ReadonlyMap<bigint, Claim>> {
    return this.#options.known.get();
  }

  /** The guest that asks; one that is not known is, from then on, where it may have the address. */
  async of(address: bigint): Promise<Claim | undefined> {
    const known = (await this.all()).get(address);
    if (known !== undefined || address >> 64n !== linkLocalPrefix) return known;
    await this.#admitted(address);
    return (await this.all()).get(address);
  }

  /** One at a time: each costs a look at the rules. */
  async #admitted(address: bigint): Promise<void> {
    const same = this.#waiting.get(address);
    if (same !== undefined) return same;
    if (this.#waiting.size >= maxWaiting) return;
    const admitted = this.#last.then(() => this.#admit(address));
    this.#last = admitted.catch(() => {});
    this.#waiting.set(address, admitted);
    try {
      await admitted;
    } finally {
      this.#waiting.delete(address);
    }
  }

  async #admit(address: bigint): Promise<void> {
    const { bridge, admit } = this.#options;
    using limited = within(admitMs, this.#closing);
    await admit({ bridge, address }, limited);
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
  }
}
