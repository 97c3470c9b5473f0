import { tapPrefix } from '../model/names.ts';
import { letPass } from './let-pass.ts';
import { type ListedChain, parseChains } from './listed-chains.ts';

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
  /** The host itself answers guests there: DHCP, names, neighbour discovery. */
  readonly isServed: boolean;
}

/** Where packets of guests are dropped. */
type Hook = 'forward' | 'input';

/**
 * Output of `nft list ruleset` → chains of other tables that may drop what is forwarded for a bridge or comes from it to the
 * host: with policy drop, with a rule that drops or rejects everything that reaches it, or with one that names the
 * bridge. A table with an accept rule for this bridge is taken as configured for it; there only drops that name the
 * bridge count. Rules for frames name taps instead.
 */
export function findForeignFilters(text: string, met: Met): readonly ForeignFilter[] {
  const { bridge, ipv4, ipv6, isServed } = met;
  const chains = parseChains(text).filter(
    ({ family }) => family === 'bridge' || (ipv4 && family !== 'ip6') || (ipv6 && family !== 'ip'),
  );
  const hooks: readonly Hook[] = isServed ? ['forward', 'input'] : ['forward'];
  const tables = Map.groupBy(chains, ({ table }) => table);
  return [...tables.values()].flatMap((inTable) => {
    const link = inTable[0]?.family === 'bridge' ? `${tapPrefix}*` : bridge;
    const found = hooks.flatMap((hook) => filtersAt(hook, inTable, link));
    return found.filter(({ chain }, at) => found.findIndex((each) => each.chain === chain) === at);
  });
}

function filtersAt(
  hook: Hook,
  all: readonly ListedChain[],
  link: string,
): readonly ForeignFilter[] {
  const chains = all.map((chain) => withHook(chain, hook));
  const passed = reachable(chains);
  const configured = passed.some(({ rules }) => rules.some((rule) => accepts(rule, link, chains)));
  const droppers = passed.filter(
    ({ hooked, rules }) =>
      dropsByName(rules, link) || (!configured && hooked && rules.some(dropsAll)),
  );
  const met = passed.map(({ name }) => name);
  return droppers.map(({ table, name }) => ({
    chain: `${table} ${name}`,
    remedy: letPass({ table, name, met, isInput: hook === 'input' }, link),
  }));
}

interface Chain extends ListedChain {
  /** Whether packets come here first. */
  readonly hooked: boolean;
}

function withHook(chain: ListedChain, hook: Hook): Chain {
  return { ...chain, hooked: chain.rules[0]?.startsWith(`type filter hook ${hook} `) ?? false };
}

/** The chains that a packet may pass: those at the hook, and those they jump to. */
function reachable(chains: readonly Chain[]): readonly Chain[] {
  const byName = new Map(chains.map((chain) => [chain.name, chain]));
  const found = new Set(chains.filter(({ hooked }) => hooked));
  // Iterating over a set includes what is added meanwhile.
  for (const { rules } of found) {
    for (const rule of rules) {
      const next = byName.get(sentTo(rule) ?? '');
      if (next !== undefined) found.add(next);
    }
  }
  return [...found];
}

function accepts(rule: string, link: string, chains: readonly Chain[]): boolean {
  if (!names(rule, link)) return false;
  if (/\baccept$/.test(verdictOf(rule))) return true;
  // firewalld sends a link's packets to its zone's chain.
  const zone = chains.find(({ name }) => name === sentTo(rule));
  return zone?.rules.some((each) => verdictOf(each) === 'accept') ?? false;
}

/** Whether a rule that names the link drops, and none before it accepts all that goes the same way. */
function dropsByName(rules: readonly string[], link: string): boolean {
  return rules.some((rule, at) => {
    if (!drops(rule)) return false;
    const passed = rules.slice(0, at).filter(acceptsLink);
    const isPassed = (way: Way): boolean => passed.some((each) => namesAt(each, way, link));
    return ways.some((way) => namesAt(rule, way, link) && !isPassed(way));
  });
}

const ways = ['iif', 'oif'] as const;
type Way = (typeof ways)[number];

/** Whether a rule accepts whatever comes from, or goes to, the link that it names. */
function acceptsLink(rule: string): boolean {
  return /^[io]if(name)? (\{[^}]*\}|"[^"]*") accept$/.test(verdictOf(rule));
}

function names(rule: string, link: string): boolean {
  return ways.some((way) => namesAt(rule, way, link));
}

/** By its name, or by its number as libvirt's own tables have it, which nft shows with the name. */
function namesAt(rule: string, way: Way, link: string): boolean {
  const matches = rule.matchAll(new RegExp(`\\b${way}(?:name)? (\\{[^}]*\\}|"[^"]*")`, 'g'));
  const links = [...matches].flatMap(([, links = '']) => links.match(/[^"{}, ]+/g) ?? []);
  return links.some((each) =>
    each.endsWith('*') ? link.startsWith(each.slice(0, -1)) : link === each,
  );
}

function drops(rule: string): boolean {
  // The last form is how nft shows a rule of iptables that it can't translate.
  return /\b(drop|reject( with [^"]*)?|xt target "(DROP|REJECT)")$/.test(verdictOf(rule));
}

function dropsAll(rule: string): boolean {
  return (
    /^type .* policy drop;$/.test(rule) ||
    /^(log( (prefix|level|flags|group) ("[^"]*"|\S+))* )?(drop|reject( with .*)?)$/.test(
      verdictOf(rule),
    )
  );
}

function sentTo(rule: string): string | undefined {
  return /\b(?:jump|goto) (\S+)$/.exec(verdictOf(rule))?.[1];
}

/** Without counters and comments. */
function verdictOf(rule: string): string {
  return rule
    .replace(/ comment "[^"]*"$/, '')
    .replace(/\bcounter( packets \d+ bytes \d+| name \S+)? ?/, '')
    .trim();
}
