import type { Waiting } from '#spec';
import type { NetworkStore } from '../store/store.ts';
import { formatRuleset } from './ruleset.ts';
import { applyScript, list, missesAny } from './run-nft.ts';
import { formatTracking, trackingTable } from './tracking.ts';

/** The driver's rules on the host, made from the store alone. The caller of `apply` holds its lock. */
export class Rules {
  readonly #nft: string;
  readonly #table: string;
  readonly #store: NetworkStore;
  readonly #maxConnections: number;
  #applied: { readonly script: string; readonly atMs: number } | undefined;

  constructor(
    store: NetworkStore,
    options: { readonly nft: string; readonly table: string; readonly maxConnections: number },
  ) {
    this.#store = store;
    this.#nft = options.nft;
    this.#table = options.table;
    this.#maxConnections = options.maxConnections;
  }

  /** One run of nft, and one transaction of the kernel; `without` is a network about to be removed. */
  async apply(waiting: Waiting, { without }: { readonly without?: string } = {}): Promise<void> {
    const script = await this.#script(without);
    await applyScript(script, { nft: this.#nft }, waiting);
    this.#applied = { script, atMs: performance.now() };
  }

  /** Whether this process applied rules within the last `freshMs`. */
  isFresh(freshMs: number): boolean {
    return this.#applied !== undefined && performance.now() - this.#applied.atMs <= freshMs;
  }

  /** Whether they were the very rules that `apply` would apply now. */
  async isCurrent(freshMs: number): Promise<boolean> {
    return this.isFresh(freshMs) && this.#applied?.script === (await this.#script());
  }

  /** Whether one of our tables was deleted, or a chain in it emptied, as `nft flush table` does. */
  async gone(waiting: Waiting): Promise<boolean> {
    const tables = [
      `inet ${this.#table}`,
      `bridge ${this.#table}`,
      `inet ${trackingTable(this.#table)}`,
    ];
    return missesAny(tables, { nft: this.#nft }, waiting);
  }

  /** All rules of the host, without counters and elements of sets. Throws NetError when they are too many. */
  async list(waiting: Waiting): Promise<string> {
    return list('the rules', ['ruleset'], { nft: this.#nft }, waiting);
  }

  async #script(without?: string): Promise<string> {
    const all = await this.#store.networks();
    const networks = all.filter(({ record }) => record.bridge !== without);
    const tracking = formatTracking(this.#table, networks, this.#maxConnections);
    return formatRuleset(this.#table, networks) + tracking;
  }
}
