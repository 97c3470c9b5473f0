import { type ListedChain, parseChains } from './listed-chains.ts';

/**
 * Output of `nft list ruleset` → chains of other tables, as `family table chain`, that may drop what is forwarded for a
 * bridge: with policy drop, with a rule that drops or rejects everything that reaches it, or with one that names the
 * bridge. A table with an accept rule for this bridge is taken as configured for it; there only drops that name the
 * bridge count.
 */
export function findForwardFilters(text: string, bridge: string): readonly string[] {
  const tables = Map.groupBy(parseChains(text).map(withHooks), ({ table }) => table);
  return [...tables.values()].flatMap((chains) => {
    const passed = reachable(chains);
    const configured = passed.some(({ rules }) =>
      rules.some((rule) => accepts(rule, bridge, chains)),
    );
    const droppers = passed.filter(
      ({ hooked, rules }) =>
        rules.some((rule) => names(rule, bridge) && drops(rule)) ||
        (!configured && hooked && rules.some(dropsAll)),
    );
    return droppers.map(({ table, name }) => `${table} ${name}`);
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

function names(rule: string, bridge: string): boolean {
  const matches = rule.matchAll(/\b[io]ifname (\{[^}]*\}|"[^"]*")/g);
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
