import type { Family } from '../rules/listed-chains.ts';

/** A way through a link: from it, or out by it. */
export type Way = (typeof ways)[number];
export const ways = ['iif', 'oif'] as const;

export function names(rule: string, link: string): boolean {
  return ways.some((way) => namesAt(rule, way, link));
}

/** By its name, or by its number as libvirt's own tables have it, which nft shows with the name. */
export function namesAt(rule: string, way: Way, link: string): boolean {
  const matches = rule.matchAll(new RegExp(`\\b${way}(?:name)? (\\{[^}]*\\}|"[^"]*")`, 'g'));
  const links = [...matches].flatMap(([, links = '']) => links.match(/[^"{}, ]+/g) ?? []);
  return links.some((each) =>
    each.endsWith('*') ? link.startsWith(each.slice(0, -1)) : link === each,
  );
}

/** Whether a rule that names a link accepts all that goes that way there, at least of the network's own addresses. */
export function acceptsAll(
  rule: string,
  { way, family, subnets }: { way: Way; family: Family; subnets: readonly string[] },
): boolean {
  const verdict = verdictOf(rule);
  const side = way === 'iif' ? 'saddr' : 'daddr';
  const own = new RegExp(`\\bip6? ${side} (\\S+) `).exec(verdict);
  // A rule for addresses of one family says nothing of the other.
  const isOwn = subnets.includes(own?.[1] ?? '') && (family === 'ip' || family === 'ip6');
  const rest = isOwn ? verdict.replace(own?.[0] ?? '', '') : verdict;
  return /^[io]if(name)? (\{[^}]*\}|"[^"]*") accept$/.test(rest);
}

export function drops(rule: string): boolean {
  // The last form is how nft shows a rule of iptables that it can't translate.
  return /\b(drop|reject( with [^"]*)?|xt target "(DROP|REJECT)")$/.test(verdictOf(rule));
}

/** Whether a rule, or a chain's policy, drops whatever reaches it. */
export function dropsAll(rule: string): boolean {
  return (
    /^type .* policy drop;$/.test(rule) ||
    /^(log( (prefix|level|flags|group) ("[^"]*"|\S+))* )?(drop|reject( with .*)?)$/.test(
      verdictOf(rule),
    )
  );
}

/** Whether it is the line with a chain's hook and policy, which comes first and holds last. */
export function isPolicy(rule: string): boolean {
  return rule.startsWith('type ');
}

export function sentTo(rule: string): string | undefined {
  return /\b(?:jump|goto) (\S+)$/.exec(verdictOf(rule))?.[1];
}

/** Without counters and comments. */
export function verdictOf(rule: string): string {
  return rule
    .replace(/ comment "[^"]*"$/, '')
    .replace(/\bcounter( packets \d+ bytes \d+| name \S+)? ?/, '')
    .trim();
}
