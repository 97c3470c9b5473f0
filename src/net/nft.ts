import { type RunResult, runProgram, type Waiting } from '#host';
import { NetError } from './error.ts';
import { formatRuleset } from './ruleset.ts';
import type { NetworkStore } from './store.ts';

// nft waits for other users of the netfilter tables; 15 ms is usual.
const deadlineMs = 10_000;

/** The host's rules, which are made from what the store says and from nothing else. The caller holds its lock. */
export class Rules {
  readonly #nft: string;
  readonly #table: string;
  readonly #store: NetworkStore;
  #appliedAtMs = Number.NEGATIVE_INFINITY;

  constructor(nft: string, table: string, store: NetworkStore) {
    this.#nft = nft;
    this.#table = table;
    this.#store = store;
  }

  /** All of it happens or nothing. */
  async apply(waiting: Waiting): Promise<void> {
    const script = formatRuleset(this.#table, await this.#store.networks());
    const result = await this.#run(script, waiting);
    if (result.code !== 0) {
      const said = result.stderr.trim().split('\n').slice(0, 3).join(' ');
      throw new NetError('rules', `nft refused the rules: ${said || `exit code ${result.code}`}`);
    }
    this.#appliedAtMs = Date.now();
  }

  /** For a caller who changed nothing and wants to be sure: not again when this process just did. */
  async refresh(freshMs: number, waiting: Waiting): Promise<void> {
    if (Date.now() - this.#appliedAtMs > freshMs) await this.apply(waiting);
  }

  async #run(stdin: string, waiting: Waiting): Promise<RunResult> {
    const signal = AbortSignal.any([waiting.signal, AbortSignal.timeout(deadlineMs)]);
    try {
      return await runProgram({ program: this.#nft, args: ['-f', '-'], stdin }, { signal });
    } catch (cause) {
      throw new NetError('rules', `running ${this.#nft} to apply the rules failed`, { cause });
    }
  }
}
