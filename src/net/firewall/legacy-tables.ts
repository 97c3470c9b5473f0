import { readFile } from 'node:fs/promises';
import { findProgram, runProgram, within } from '#host';
import type { Waiting } from '#spec';
import { NetError } from '../model/error.ts';
import type { ListedChain } from '../rules/listed-chains.ts';
import { parseLegacyRules } from './legacy-rules.ts';

const deadlineMs = 10_000;
const maxListedBytes = 4 * 1024 * 1024;

// The first program is there beside one of the same name that works with nftables, whose rules nft lists itself.
const kinds = [
  { family: 'ip', programs: ['iptables-legacy', 'iptables'] },
  { family: 'ip6', programs: ['ip6tables-legacy', 'ip6tables'] },
] as const;

type Kind = (typeof kinds)[number];

export interface LegacyRules {
  /** Another one after each change that was seen. */
  readonly state: number;
  readonly chains: readonly ListedChain[];
}

/** Rules of the kernel's older kind, which packets pass as well and nft does not list. */
export class LegacyTables {
  #last: LegacyRules & { readonly text: string } = { state: 0, chains: [], text: '' };

  /** Those in tables for filtering; no program is started on a host without. Throws NetError, HostError. */
  async read(waiting: Waiting): Promise<LegacyRules> {
    const found = await Promise.all(
      kinds.map(async (kind) => ((await isInUse(kind)) ? save(kind, waiting) : undefined)),
    );
    const saved = found.filter((each) => each !== undefined);
    const text = saved.map((each) => each.text).join('');
    if (text !== this.#last.text) {
      const chains = saved.flatMap((each) => parseLegacyRules(each.text, each));
      this.#last = { state: this.#last.state + 1, chains, text };
    }
    return this.#last;
  }
}

async function isInUse({ family }: Kind): Promise<boolean> {
  try {
    return /^filter$/m.test(await readFile(`/proc/net/${family}_tables_names`, 'utf8'));
  } catch {
    // A kernel without them.
    return false;
  }
}

async function save({ family, programs }: Kind, waiting: Waiting) {
  for (const program of programs) {
    const path = findProgram(`${program}-save`);
    if (path === undefined) continue;
    using limited = within(deadlineMs, waiting);
    const args = ['-t', 'filter'];
    const options = { program: path, args, maxOutputBytes: maxListedBytes };
    const { code, stdout, stderr } = await runProgram(options, limited);
    if (code !== 0) throw new NetError('host', `${path} failed: ${stderr.trim()}`);
    if (/^# .*\(nf_tables\)/m.test(stdout)) continue;
    // The comments have the time, the chains have counters.
    const text = stdout.replaceAll(/^#.*\n/gm, '').replaceAll(/ \[\d+:\d+\]$/gm, '');
    return { family, program, text };
  }
  return undefined;
}
