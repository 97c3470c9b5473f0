import type { Waiting } from '#spec';
import type { NetworkStore } from '../store/store.ts';
import { driverTable } from './listed-chains.ts';
import { findPublished, type PublishedElsewhere, readPublishedMap } from './published-elsewhere.ts';
import { formatRuleset, publishedMaps } from './ruleset.ts';
import { applyScript, list, listElements, missesAny } from './run-nft.ts';
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

  /** Ports that tables of other programs and other agents publish. */
  async publishedElsewhere(waiting: Waiting): Promise<readonly PublishedElsewhere[]> {
    const rules = await this.list(waiting);
    const tables = [...rules.matchAll(/^table inet (\S+)/gm)].map(([, name = '']) => name);
    const agents = tables.filter((name) => isPublishing(name) && name !== this.#table);
    const maps = agents.flatMap((table) => publishedMaps.map((map) => ({ table, map })));
    const lists = maps.map(async ({ table, map }) => {
      const object = ['map', 'inet', table, map];
      const text = await listElements(`map ${map}`, object, { nft: this.#nft }, waiting);
      return readPublishedMap(text, `inet ${table} arriving`);
    });
    return [...findPublished(rules), ...(await Promise.all(lists)).flat()];
  }

  async #script(without?: string): Promise<string> {
    const all = await this.#store.networks();
    const networks = all.filter(({ record }) => record.bridge !== without);
    const tracking = formatTracking(this.#table, networks, this.#maxConnections);
    return formatRuleset(this.#table, networks) + tracking;
  }
}

/** Of an agent; another table of it bounds the connections. */
function isPublishing(table: string): boolean {
  return driverTable.test(table) && table !== trackingTable(table.replace(/_tracked$/, ''));
}
