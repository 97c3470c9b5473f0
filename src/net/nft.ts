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
    const result = await this.#run(['-f', '-'], waiting, script);
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

  /**
   * Other tables that drop what is forwarded unless they know it, as Docker's does: a packet must pass every table, so
   * no rule of ours can let a guest's through.
   */
  async forwardDroppers(waiting: Waiting): Promise<readonly string[]> {
    const result = await this.#run(['list', 'chains'], waiting);
    return findForwardDroppers(result.stdout);
  }

  async #run(args: readonly string[], waiting: Waiting, stdin = ''): Promise<RunResult> {
    const signal = AbortSignal.any([waiting.signal, AbortSignal.timeout(deadlineMs)]);
    try {
      return await runProgram({ program: this.#nft, args, stdin }, { signal });
    } catch (cause) {
      throw new NetError('rules', `running ${this.#nft} ${args.join(' ')} failed`, { cause });
    }
  }
}

/** What `nft list chains` says → `table chain` of those that hook into forwarding with policy drop. */
export function findForwardDroppers(text: string): readonly string[] {
  const tables = text.split(/^table /m).slice(1);
  return tables.flatMap((table) => {
    const [, family = '', name = ''] = /^(\S+) (\S+)/.exec(table) ?? [];
    if (!/^(ip|inet)$/.test(family)) return [];
    const chains = table.matchAll(/chain (\S+) \{\s*type filter hook forward [^}]*policy drop;/g);
    return [...chains].map(([, chain = '']) => `${family} ${name} ${chain}`);
  });
}
