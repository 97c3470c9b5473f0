import type { Claim } from './claim.ts';
import type { NetworkStore } from './store.ts';

const freshMs = 1000;

interface Reading<T> {
  readonly index: Promise<T>;
  readonly changedAtNs: bigint | undefined;
  /**
   * Whether a later change is certain to show another time. The clock of files advances in ticks, so a change right after
   * a reading may not; it does a second later.
   */
  readonly settled: boolean;
  atMs: number;
}

/**
 * A network's claims in a form of the caller's, for a server that is asked all the time: looked at once a second, because
 * other processes may change them, and read only when they have changed.
 */
export class KnownGuests<T> {
  readonly #store: Pick<NetworkStore, 'claims' | 'changedAtNs'>;
  readonly #bridge: string;
  readonly #index: (claims: readonly Claim[]) => T;
  #known: Reading<T> | undefined;

  constructor(
    store: Pick<NetworkStore, 'claims' | 'changedAtNs'>,
    bridge: string,
    index: (claims: readonly Claim[]) => T,
  ) {
    this.#store = store;
    this.#bridge = bridge;
    this.#index = index;
  }

  /** This process has changed them: they are read anew. */
  forget(): void {
    this.#known = undefined;
  }

  /** The promise is kept, not its outcome: a reading that `forget` came after is never taken for a newer one. */
  async get(): Promise<T> {
    const known = this.#known;
    if (known !== undefined && performance.now() - known.atMs < freshMs) return known.index;
    const changedAtNs = await this.#store.changedAtNs(this.#bridge);
    // Another query may have been first, or the claims have changed meanwhile.
    if (known !== this.#known) return this.get();
    const same = known?.changedAtNs === changedAtNs;
    if (known?.settled && same) {
      known.atMs = performance.now();
      return known.index;
    }
    return this.#read({ changedAtNs, settled: same });
  }

  async #read(facts: Pick<Reading<T>, 'changedAtNs' | 'settled'>): Promise<T> {
    const index = this.#store.claims(this.#bridge).then(this.#index);
    const reading = { ...facts, index, atMs: performance.now() };
    this.#known = reading;
    try {
      return await index;
    } catch (error) {
      if (this.#known === reading) this.#known = undefined;
      throw error;
    }
  }
}
