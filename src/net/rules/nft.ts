import { type RunResult, runProgram, within } from '#host';
import type { Waiting } from '#spec';
import { asNetError, NetError } from '../model/error.ts';
import type { NetworkStore } from '../store/store.ts';
import { formatRuleset } from './ruleset.ts';
import { formatTracking, trackingTable } from './tracking.ts';

// nft waits for other users of the netfilter tables; 15 ms is typical.
const deadlineMs = 10_000;
// Hosts of a big cluster have tens of thousands of rules; more than this is not read.
const maxListedBytes = 4 * 1024 * 1024;

// Every chain that the driver makes has a rule; the line of its hook is none.
const emptyChain = /^\tchain \S+ \{\n(\t\ttype .*\n)?\t\}$/m;

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
    const { code, stderr } = await this.#run(['-f', '-'], waiting, script);
    if (code !== 0) throw new NetError('host', `nft refused the rules: ${reason(code, stderr)}`);
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
    const present = (await this.#list('tables', ['tables'], waiting)).split('\n');
    if (tables.some((table) => !present.includes(`table ${table}`))) return true;
    // One run each: nft 1.0.6 finds only the last one when it lists several in one run.
    const lists = tables.map((table) =>
      this.#list('a table', ['table', ...table.split(' ')], waiting),
    );
    return (await Promise.all(lists)).some((text) => emptyChain.test(text));
  }

  /** All rules of the host, without counters and elements of sets. Throws NetError when they are too many. */
  async list(waiting: Waiting): Promise<string> {
    return this.#list('the rules', ['ruleset'], waiting);
  }

  async #list(what: string, object: readonly string[], waiting: Waiting): Promise<string> {
    const { code, stdout, stderr } = await this.#run(['-s', '-t', 'list', ...object], waiting);
    if (code === 0) return stdout;
    throw new NetError('host', `nft refused to list ${what}: ${reason(code, stderr)}`);
  }

  async #script(without?: string): Promise<string> {
    const all = await this.#store.networks();
    const networks = all.filter(({ record }) => record.bridge !== without);
    const tracking = formatTracking(this.#table, networks, this.#maxConnections);
    return formatRuleset(this.#table, networks) + tracking;
  }

  async #run(args: readonly string[], waiting: Waiting, stdin = ''): Promise<RunResult> {
    using limited = within(deadlineMs, waiting);
    const program = { program: this.#nft, args, stdin, maxOutputBytes: maxListedBytes };
    return await asNetError(`running ${this.#nft} ${args.join(' ')} failed`, () =>
      runProgram(program, limited),
    );
  }
}

function reason(code: number | null, stderr: string): string {
  return stderr.trim().split('\n').slice(0, 3).join(' ') || `exit code ${code}`;
}
