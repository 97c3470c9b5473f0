import { tapPrefix } from '../model/names.ts';
import type { ListedChain } from '../rules/listed-chains.ts';
import { letPass } from './let-pass.ts';
import {
  acceptsAll,
  drops,
  dropsAll,
  isPolicy,
  names,
  namesAt,
  sentTo,
  verdictOf,
  ways,
} from './listed-rule.ts';

/** A chain of another program that may drop packets of a bridge. */
export interface ForeignFilter {
  /** Family, table and chain. */
  readonly chain: string;
  /** The command that lets the bridge's packets pass. */
  readonly remedy: string;
}

/** What packets of a bridge meet on this host. */
export interface Met {
  readonly bridge: string;
  /** Rules for each: those for frames are met in any case. */
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  /** The addresses of its guests, as nft writes them; none that a rule could name where they are left out. */
  readonly subnets?: readonly string[];
  /** The host itself answers guests there: DHCP, names, neighbour discovery. */
  readonly isServed: boolean;
}

/** Where packets of guests are dropped. */
type Hook = 'forward' | 'input';

/**
 * Chains of other programs → those that may drop what is forwarded for a bridge or comes from it to the host: with policy
 * drop, with a rule that drops or rejects everything that reaches it, or with one that names the bridge. A table with an
 * accept rule for this bridge is taken as configured for it; there only drops that name the bridge count, and those only
 * before a rule that accepts all that goes the same way. Rules for frames name taps instead.
 */
export function findForeignFilters(
  all: readonly ListedChain[],
  met: Met,
): readonly ForeignFilter[] {
  const { bridge, ipv4, ipv6, subnets = [], isServed } = met;
  const chains = all.filter(
    ({ family }) => family === 'bridge' || (ipv4 && family !== 'ip6') || (ipv6 && family !== 'ip'),
  );
  const hooks: readonly Hook[] = isServed ? ['forward', 'input'] : ['forward'];
  const tables = Map.groupBy(chains, ({ table }) => table);
  return [...tables.values()].flatMap((inTable) => {
    const link = inTable[0]?.family === 'bridge' ? `${tapPrefix}*` : bridge;
    const found = hooks.flatMap((hook) => filtersAt(hook, inTable, { link, subnets }));
    return found.filter(({ chain }, at) => found.findIndex((each) => each.chain === chain) === at);
  });
}

interface Passing {
  readonly link: string;
  readonly subnets: readonly string[];
}

function filtersAt(
  hook: Hook,
  chains: readonly ListedChain[],
  { link, subnets }: Passing,
): readonly ForeignFilter[] {
  const bases = chains
    .filter(({ rules }) => rules[0]?.startsWith(`type filter hook ${hook} `) ?? false)
    .map((base) => ({ base, steps: stepsFrom(base, chains) }));
  const configured = bases.some(({ steps }) =>
    steps.some(({ rule }) => accepts(rule, link, chains)),
  );
  return bases.flatMap(({ base, steps }) => {
    const named = droppedByName(steps, { link, subnets });
    const droppers = steps.filter(
      (step) => named.has(step) || (!configured && step.chain === base && dropsAll(step.rule)),
    );
    return droppers.map((step) => {
      const before = isPolicy(step.rule) ? steps : steps.slice(0, steps.indexOf(step));
      const met = before.flatMap(({ rule }) => sentTo(rule) ?? []);
      const { table } = base;
      // Programs make their chains anew, and their own rules come first in there again.
      const remedy = letPass({ table, name: base.name, met, isInput: hook === 'input' }, link);
      return { chain: `${table} ${step.chain.name}`, remedy };
    });
  });
}

/** A rule that packets meet. */
interface Step {
  readonly chain: ListedChain;
  readonly rule: string;
  /** Whether all of them meet it that no rule has accepted or dropped before. */
  readonly isMet: boolean;
}

/** What packets meet from a chain on, in its order; a chain that several rules lead to counts at the first of them. */
function stepsFrom(base: ListedChain, chains: readonly ListedChain[]): readonly Step[] {
  const byName = new Map(chains.map((chain) => [chain.name, chain]));
  const seen = new Set<ListedChain>();
  const follow = (chain: ListedChain, isMet: boolean): readonly Step[] => {
    if (seen.has(chain)) return [];
    seen.add(chain);
    let isOn = isMet;
    return chain.rules.flatMap((rule) => {
      const step = { chain, rule, isMet: isOn };
      const verdict = verdictOf(rule);
      const next = byName.get(sentTo(rule) ?? '');
      const isSent = /^(jump|goto) /.test(verdict);
      if (/\b(return|goto \S+)$/.test(verdict)) isOn = false;
      return next === undefined ? [step] : [step, ...follow(next, step.isMet && isSent)];
    });
  };
  return follow(base, true);
}

function accepts(rule: string, link: string, chains: readonly ListedChain[]): boolean {
  if (!names(rule, link)) return false;
  if (/\baccept$/.test(verdictOf(rule))) return true;
  // firewalld sends a link's packets to its zone's chain.
  const zone = chains.find(({ name }) => name === sentTo(rule));
  return zone?.rules.some((each) => verdictOf(each) === 'accept') ?? false;
}

/** The steps that name the link and drop, and none before accepts all that goes the same way. */
function droppedByName(steps: readonly Step[], { link, subnets }: Passing): ReadonlySet<Step> {
  const open = new Set(ways);
  const found = new Set<Step>();
  for (const step of steps) {
    const { rule, isMet } = step;
    for (const way of open) {
      if (!namesAt(rule, way, link)) continue;
      if (drops(rule)) found.add(step);
      if (isMet && acceptsAll(rule, { way, family: step.chain.family, subnets })) open.delete(way);
    }
  }
  return found;
}
