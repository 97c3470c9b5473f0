import { letPass } from './let-pass.ts';
import { type ListedChain, parseChains } from './listed-chains.ts';

/** A chain of another program that may drop what is forwarded for a bridge. */
export interface ForwardFilter {
  /** Family, table and chain. */
  readonly chain: string;
  /** The command that lets the bridge's packets pass. */
  readonly remedy: string;
}

/**
 * Output of `nft list ruleset` → chains of other tables that may drop what is forwarded for a bridge, over IPv6 where that
 * has it: with policy drop, with a rule that drops or rejects everything that reaches it, or with one that names the
 * bridge. A table with an accept rule for this bridge is taken as configured for it; there only drops that name the
 * bridge count.
 */
export function findForwardFilters(
  text: string,
  { bridge, hasIpv6 }: { readonly bridge: string; readonly hasIpv6: boolean },
): readonly ForwardFilter[] {
  const met = parseChains(text).filter(({ family }) => hasIpv6 || family !== 'ip6');
  const tables = Map.groupBy(met.map(withHooks), ({ table }) => table);
  return [...tables.values()].flatMap((chains) => {
    const passed = reachable(chains);
    const configured = passed.some(({ rules }) =>
      rules.some((rule) => accepts(rule, bridge, chains)),
    );
    const droppers = passed.filter(
      ({ hooked, rules }) =>
        dropsByName(rules, bridge) || (!configured && hooked && rules.some(dropsAll)),
    );
    const siblings = chains.map(({ name }) => name);
    return droppers.map(({ table, name }) => ({
      chain: `${table} ${name}`,
      remedy: letPass({ table, name, siblings }, bridge),
    }));
  });
}

interface Chain extends ListedChain {
  /** Whether packets come here first when they are forwarded. */
  readonly hooked: boolean;
}

function withHooks(chain: ListedChain): Chain {
  return { ...chain, hooked: /^type filter hook forward /.test(chain.rules[0] ?? '') };
}

/** The chains that a forwarded packet may pass: those at the hook, and those they jump to. */
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

function accepts(rule: string, bridge: string, chains: readonly Chain[]): boolean {
  if (!names(rule, bridge)) return false;
  if (/\baccept$/.test(verdictOf(rule))) return true;
  // firewalld sends a link's packets to its zone's chain.
  const zone = chains.find(({ name }) => name === sentTo(rule));
  return zone?.rules.some((each) => verdictOf(each) === 'accept') ?? false;
}

/** Whether a rule that names the bridge drops, and none before it accepts all that goes the same way. */
function dropsByName(rules: readonly string[], bridge: string): boolean {
  return rules.some((rule, at) => {
    if (!drops(rule)) return false;
    const passed = rules.slice(0, at).filter(acceptsLink);
    const isPassed = (way: Way): boolean => passed.some((each) => namesAt(each, way, bridge));
    return ways.some((way) => namesAt(rule, way, bridge) && !isPassed(way));
  });
}

const ways = ['iifname', 'oifname'] as const;
type Way = (typeof ways)[number];

/** Whether a rule accepts whatever comes from, or goes to, the link that it names. */
function acceptsLink(rule: string): boolean {
  return /^[io]ifname (\{[^}]*\}|"[^"]*") accept$/.test(verdictOf(rule));
}

function names(rule: string, bridge: string): boolean {
  return ways.some((way) => namesAt(rule, way, bridge));
}

function namesAt(rule: string, way: Way, bridge: string): boolean {
  const matches = rule.matchAll(new RegExp(`\\b${way} (\\{[^}]*\\}|"[^"]*")`, 'g'));
  const links = [...matches].flatMap(([, links = '']) => links.match(/[^"{}, ]+/g) ?? []);
  return links.some((link) =>
    link.endsWith('*') ? bridge.startsWith(link.slice(0, -1)) : bridge === link,
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
