import type { Family, ListedChain } from '../rules/listed-chains.ts';

/** A table's name in the list of chains: that of the program that changes it, and its own. */
export const legacyTable = /^(ip6?tables\S*) filter$/;

const hooks: Readonly<Record<string, string>> = { INPUT: 'input', FORWARD: 'forward' };

/** Output of `iptables-save -t filter` → its chains as nft would list them; what it matches beside stays as it is. */
export function parseLegacyRules(
  text: string,
  { program, family }: { readonly program: string; readonly family: Family },
): readonly ListedChain[] {
  const chains = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [, made, policy = ''] = /^:(\S+) (\S+)/.exec(line) ?? [];
    if (made !== undefined) chains.set(made, firstRules(made, policy));
    const [, name = '', rule = ''] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    chains.get(name)?.push(asNft(rule, family));
  }
  const table = `${program} filter`;
  return [...chains].map(([name, rules]) => ({ family, table, name, rules }));
}

function firstRules(chain: string, policy: string): string[] {
  const hook = hooks[chain];
  if (hook === undefined) return [];
  return [`type filter hook ${hook} priority filter; policy ${policy.toLowerCase()};`];
}

function asNft(rule: string, family: Family): string {
  return rule
    .replace(/(^| )-m comment --comment ("(?:[^"\\]|\\.)*"|\S+)/g, '')
    .replace(/(^| )(! )?-([io]) (\S+)/g, (_, before, not, way, link) => {
      const name = link.replace(/\+$/, '*');
      return `${before}${way}ifname ${not === undefined ? '' : '!= '}"${name}"`;
    })
    .replace(/(^| )(! )?-([sd]) (\S+)/g, (_, before, not, side, addresses) => {
      return `${before}${family} ${side}addr ${not === undefined ? '' : '!= '}${addresses}`;
    })
    .replace(/(^| )-j (ACCEPT|DROP|RETURN)$/, (_, before, target) => before + target.toLowerCase())
    .replace(/(^| )-j REJECT( --reject-with \S+)?$/, '$1reject')
    .replace(/(^| )-j (\S+)$/, '$1jump $2')
    .replace(/(^| )-g (\S+)$/, '$1goto $2')
    .trim();
}
