import { LastingSocket, ruleGeneration } from '#netlink';
import type { Waiting } from '#spec';
import { PerGeneration } from '../model/per-generation.ts';
import type { NetworkStore } from '../store/store.ts';
import { type Asked, askedIn, contested, strangers } from './anti-spoofing6.ts';
import { changesOf } from './changes.ts';
import { readPublished } from './published-maps.ts';
import type { PublishedElsewhere } from './published-rule.ts';
import { formatRuleset } from './ruleset.ts';
import { applyScript, list, listElements } from './run-nft.ts';
import { tableState } from './table-state.ts';
import { formatTracking, trackingTable } from './tracking.ts';

/** `unknown` where some were changed before a look at them, or another process has applied its own. */
type RulesFound = 'whole' | 'damaged' | 'unknown';

/** The driver's rules on the host, made from the store alone. The caller of `apply` holds its lock. */
export class Rules {
  readonly #nft: string;
  readonly #table: string;
  readonly #store: NetworkStore;
  readonly #maxConnections: number;
  readonly #netfilter = new LastingSocket({ family: 'netfilter' });
  #applied:
    | {
        readonly script: string;
        readonly atMs: number;
        /** Of the kernel's rules right after it; undefined where another program changed rules meanwhile. */
        readonly generation: number | undefined;
        /** What the tables held then, from the first look on that found no other generation. */
        readonly state?: string;
      }
    | undefined;
  readonly #listed = new PerGeneration<string>();
  readonly #published = new PerGeneration<readonly PublishedElsewhere[]>();

  /** Of the rules of other programs; the number grows with each change that was seen. */
  #others: { readonly state: number; readonly generation: number | undefined } = {
    state: 0,
    generation: undefined,
  };

  constructor(
    store: NetworkStore,
    options: { readonly nft: string; readonly table: string; readonly maxConnections: number },
  ) {
    this.#store = store;
    this.#nft = options.nft;
    this.#table = options.table;
    this.#maxConnections = options.maxConnections;
  }

  /**
   * One transaction of the kernel at most; `without` is a network about to be removed. Where nothing but this process has
   * changed rules since the last one, only what differs is loaded.
   */
  async apply(waiting: Waiting, { without }: { readonly without?: string } = {}): Promise<void> {
    const script = await this.#script(without);
    const before = await this.#generation(waiting);
    const known = before !== undefined && this.#applied?.generation === before;
    const changes = known ? changesOf(this.#applied?.script ?? '', script) : undefined;
    const atMs = performance.now();
    if (changes === '') {
      this.#applied = { ...this.#applied, script, atMs, generation: before };
      return;
    }
    this.#applied = undefined;
    const changed = changes === undefined ? undefined : await this.#try(changes, before, waiting);
    const generation = changed ?? (await this.#load(script, waiting));
    this.#applied = { script, atMs: performance.now(), generation };
  }

  /**
   * Returns the generation then; undefined where another program has changed rules after the one before was read: what was
   * changed may not be the driver's rules by now.
   */
  async #try(
    changes: string,
    before: number | undefined,
    waiting: Waiting,
  ): Promise<number | undefined> {
    try {
      await applyScript(changes, { nft: this.#nft }, waiting);
    } catch {
      waiting.signal.throwIfAborted();
      return undefined;
    }
    return this.#after(before, waiting);
  }

  /** Replaces all rules. Returns their generation; undefined where another program changed rules meanwhile. */
  async #load(script: string, waiting: Waiting): Promise<number | undefined> {
    const before = await this.#generation(waiting);
    await applyScript(script, { nft: this.#nft }, waiting);
    return this.#after(before, waiting);
  }

  /** The generation now, if nothing but one transaction of this process has changed rules since that one. */
  async #after(before: number | undefined, waiting: Waiting): Promise<number | undefined> {
    const after = await this.#generation(waiting);
    if (before === undefined || after !== next(before)) return undefined;
    // Rules of other programs are still those that were read.
    if (this.#others.generation === before) this.#others = { ...this.#others, generation: after };
    this.#published.outlive(before, after);
    return after;
  }

  /** Whether this process applied rules within the last `freshMs`. */
  isFresh(freshMs: number): boolean {
    return this.#applied !== undefined && performance.now() - this.#applied.atMs <= freshMs;
  }

  /** Whether they were the very rules that `apply` would apply now. */
  async isCurrent(freshMs: number): Promise<boolean> {
    return this.isFresh(freshMs) && this.#applied?.script === (await this.#script());
  }

  /** What other programs have done to the rules since this process applied them. */
  async look(waiting: Waiting): Promise<RulesFound> {
    const applied = this.#applied;
    const generation = await this.#generation(waiting);
    const isOwn = generation !== undefined && generation === applied?.generation;
    if (isOwn && applied?.state !== undefined) return 'whole';
    const state = await this.#state(waiting);
    if (state === undefined) return 'damaged';
    // Those of the process before, which adoption loads anew.
    if (applied === undefined) return 'whole';
    if (isOwn) {
      const isStill = generation === (await this.#generation(waiting));
      if (isStill && this.#applied === applied) this.#applied = { ...applied, state };
      return 'whole';
    }
    if (applied.state === undefined || applied.script !== (await this.#script())) return 'unknown';
    if (applied.state !== state) return 'damaged';
    if (this.#applied === applied) this.#applied = { ...applied, generation };
    return 'whole';
  }

  /** Applies the rules. Whether some of them were missing; the caller holds the store's lock. */
  async renew(waiting: Waiting): Promise<boolean> {
    const before = this.#applied?.script;
    const found = await this.look(waiting);
    const state = found === 'unknown' ? await this.#state(waiting) : undefined;
    await this.apply(waiting);
    if (found !== 'unknown') return found === 'damaged';
    return before === this.#applied?.script && state !== (await this.#state(waiting));
  }

  /**
   * All rules of the host, without counters and elements of sets; listed once for all who ask until a rule changes. Throws
   * NetError when they are too many.
   */
  async list(waiting: Waiting): Promise<string> {
    return this.#listed.get(
      () => this.#generation(waiting),
      () => list('the rules', ['ruleset'], { nft: this.#nft }, waiting),
    );
  }

  /** A number that stays the same as long as no other program changes rules. */
  async stateOfOthers(waiting: Waiting): Promise<number> {
    const generation = await this.#generation(waiting);
    if (generation === undefined || generation !== this.#others.generation) {
      this.#others = { state: this.#others.state + 1, generation };
    }
    return this.#others.state;
  }

  /** Ports that tables of other programs and other agents publish. */
  async publishedElsewhere(waiting: Waiting): Promise<readonly PublishedElsewhere[]> {
    return this.#published.get(
      () => this.#generation(waiting),
      async () => {
        const own = { table: this.#table, rules: await this.list(waiting) };
        return readPublished(own, { nft: this.#nft }, waiting);
      },
    );
  }

  /** The taps from which guests asked with a link-local address that is none of theirs yet, within the last minute. */
  async strangers(linkLocal: bigint, waiting: Waiting): Promise<readonly string[]> {
    const asked = askedIn(await this.#elements(strangers, waiting));
    return asked.filter(({ address }) => address === linkLocal).map(({ tap }) => tap);
  }

  /** What guests asked with, of late, that is the link-local address of another. Empty where rules are gone. */
  async contested(waiting: Waiting): Promise<readonly Asked[]> {
    return askedIn(await this.#elementsIfAny(contested, waiting));
  }

  /** The taps that there are rules for. Empty where rules are gone. */
  async taps(waiting: Waiting): Promise<ReadonlySet<string>> {
    const pairs = (await this.#elementsIfAny('same', waiting)).matchAll(/"(\S+)" \. "\1"/g);
    return new Set([...pairs].map(([, tap = '']) => tap));
  }

  async #elementsIfAny(set: string, waiting: Waiting): Promise<string> {
    try {
      return await this.#elements(set, waiting);
    } catch {
      waiting.signal.throwIfAborted();
      return '';
    }
  }

  async #elements(set: string, waiting: Waiting): Promise<string> {
    const object = ['set', 'bridge', this.#table, set];
    return listElements('a set', object, { nft: this.#nft }, waiting);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#netfilter[Symbol.asyncDispose]();
  }

  /** Undefined where the kernel does not report it: then everything is loaded and read again. */
  async #generation(waiting: Waiting): Promise<number | undefined> {
    try {
      return await ruleGeneration(await this.#netfilter.get(), waiting);
    } catch {
      waiting.signal.throwIfAborted();
      return undefined;
    }
  }

  async #state(waiting: Waiting): Promise<string | undefined> {
    const tables = [
      `inet ${this.#table}`,
      `bridge ${this.#table}`,
      `inet ${trackingTable(this.#table)}`,
    ];
    const netfilter = await this.#netfilter.get();
    return tableState(tables, { nft: this.#nft, netfilter }, waiting);
  }

  async #script(without?: string): Promise<string> {
    const all = await this.#store.networks();
    const networks = all.filter(({ record }) => record.bridge !== without);
    const tracking = formatTracking(this.#table, networks, this.#maxConnections);
    return formatRuleset(this.#table, networks) + tracking;
  }
}

/** The generation after one transaction; 0 is none. */
function next(generation: number): number {
  return (generation + 1) >>> 0 || 1;
}
