import type { Protocol } from '#spec';
import type { ListedChain } from './listed-chains.ts';

/** Ports of this host that a rule of another program leads elsewhere, whatever listens on them. */
export interface PublishedElsewhere {
  /** Family, table and chain: the one with the rule that names the port, or that a map has for the port. */
  readonly chain: string;
  readonly protocols: readonly Protocol[];
  readonly first: number;
  readonly last: number;
  /** Both where left out. */
  readonly family?: 4 | 6;
  /** An address or prefix of the host; undefined for every address of the family. */
  readonly address?: string;
}

/** What the rules on the way to a chain have asked of a packet. */
export type Match = Partial<Pick<PublishedElsewhere, 'chain' | 'protocols' | 'family'>> & {
  readonly addresses?: readonly string[];
  readonly ports?: readonly Range[];
};

type Range = Pick<PublishedElsewhere, 'first' | 'last'>;

/** The elements of a set or map, by the words with which nft lists it: `map ip kube-proxy service-ips`. */
export type ElementsOf = (object: string) => readonly string[];

/** What a rule does with the packets that it matches. */
interface Sent {
  readonly match: Match;
  /** A chain; undefined where the rule itself translates them. */
  readonly to: string | undefined;
}

type Reader = readonly [
  pattern: RegExp,
  read: (words: readonly string[], elementsOf: ElementsOf) => Match,
];

const readers: readonly Reader[] = [
  [/^fib daddr type local/, () => ({})],
  [/^iifname != (?:"[^"]*"|\{[^}]*\})/, () => ({})],
  [/^ip daddr != 127\.\S+/, () => ({})],
  [/^ip daddr (\d[\d./]*)/, ([address = '']) => ({ family: 4, addresses: [address] })],
  [/^ip daddr @(\S+)/, ([set = ''], elementsOf) => ({ family: 4, addresses: elementsOf(set) })],
  [/^ip6 daddr != (?:::1|fe80::\S+)/, () => ({})],
  [/^ip6 daddr ([\da-f:][\da-f:./]*)/, ([address = '']) => ({ family: 6, addresses: [address] })],
  [/^ip6 daddr @(\S+)/, ([set = ''], elementsOf) => ({ family: 6, addresses: elementsOf(set) })],
  [/^meta nfproto ipv4/, () => ({ family: 4 })],
  [/^meta nfproto ipv6/, () => ({ family: 6 })],
  [/^(?:meta l4proto|ip protocol) (tcp|udp|\{[^}]*\})/, ([list = '']) => readProtocols(list)],
  [
    /^(tcp|udp|th) dport (\d[\d-]*|\{[^}]*\})/,
    ([protocol = '', list = '']) => ({ ...readProtocols(protocol), ports: readPorts(list) }),
  ],
  [/^counter(?: packets \d+ bytes \d+| name \S+)?/, () => ({})],
];

/** A rule, or each case of its map; empty when it asks for something that is not read here. */
export function readRule(
  rule: string,
  { table, name }: ListedChain,
  elementsOf: ElementsOf,
): readonly Sent[] {
  const inSet: ElementsOf = (set) => elementsOf(`set ${table} ${set}`);
  let match: Match = {};
  let rest = rule.replace(/ comment "[^"]*"$/, '').trim();
  for (;;) {
    const found = readers.find(([pattern]) => pattern.test(rest));
    if (found === undefined) break;
    const [all = '', ...words] = found[0].exec(rest) ?? [];
    match = { ...match, ...found[1](words, inSet) };
    rest = rest.slice(all.length).trim();
  }
  const at = (chain: string, asked: Match): Match =>
    asked.ports === undefined ? asked : { ...asked, chain: `${table} ${chain}` };
  const [, jump] = /^(?:jump|goto) (\S+)$/.exec(rest) ?? [];
  if (jump !== undefined) return [{ match: at(name, match), to: jump }];
  const [, selector, map, list = ''] = /^(.+?) vmap (?:@(\S+)|\{(.*)\})$/.exec(rest) ?? [];
  if (selector !== undefined) {
    const elements = map === undefined ? list.split(',') : elementsOf(`map ${table} ${map}`);
    return readCases(elements, selector).map(({ match: asked, to }) => ({
      match: { ...at(name, match), ...at(to, asked) },
      to,
    }));
  }
  // The second is how nft shows a rule of iptables that it can't translate.
  if (!/^(dnat|redirect)\b|^xt target "(DNAT|REDIRECT)"/.test(rest)) return [];
  return [{ match: at(name, { ...match, ...readTranslation(rest) }), to: undefined }];
}

/** Spreads packets over the servers of one service. */
const spreading = /^(numgen|jhash|symhash) /;

/** What a part of a map's key asks of a packet. */
const keyReaders: readonly (readonly [part: RegExp, read: (value: string) => Match])[] = [
  [/^ip daddr$/, (value) => ({ family: 4, addresses: [value] })],
  [/^ip6 daddr$/, (value) => ({ family: 6, addresses: [value] })],
  [/^(meta l4proto|ip protocol)$/, (value) => ({ protocols: protocolsIn(value) })],
  [/^th dport$/, (value) => ({ ports: readPorts(value) })],
  [/^tcp dport$/, (value) => ({ protocols: ['tcp'], ports: readPorts(value) })],
  [/^udp dport$/, (value) => ({ protocols: ['udp'], ports: readPorts(value) })],
  [spreading, () => ({})],
];

/** The elements of a verdict map that lead to a chain; none where a part of the key is not read here. */
function readCases(
  elements: readonly string[],
  selector: string,
): readonly { readonly match: Match; readonly to: string }[] {
  const read = selector
    .split(' . ')
    .map((part) => keyReaders.find(([pattern]) => pattern.test(part))?.[1]);
  if (read.includes(undefined)) return [];
  const alike = spreading.test(selector) ? elements.slice(0, 1) : elements;
  return alike.flatMap((element) => {
    const [, key = '', to] = /^(.*) : (?:jump|goto) (\S+)$/.exec(element.trim()) ?? [];
    if (to === undefined) return [];
    const values = key.split(' . ');
    let match: Match = {};
    for (const [at, each] of read.entries()) match = { ...match, ...each?.(values[at] ?? '') };
    return [{ match, to }];
  });
}

function readTranslation(rest: string): Match {
  const [, to] = /^dnat (ip6?) to/.exec(rest) ?? [];
  const match: Match = to === undefined ? {} : { family: to === 'ip' ? 4 : 6 };
  const [, protocol, list] = /\b(tcp|udp|th) dport map \{([^}]*)\}/.exec(rest) ?? [];
  if (protocol === undefined || list === undefined) return match;
  const keys = list.split(',').map((element) => element.split(' : ')[0] ?? '');
  return { ...match, ...readProtocols(protocol), ports: readPorts(keys.join(',')) };
}

function readProtocols(text: string): Pick<Match, 'protocols'> {
  const protocols = protocolsIn(text);
  return protocols.length === 0 ? {} : { protocols };
}

function protocolsIn(text: string): readonly Protocol[] {
  return (['tcp', 'udp'] as const).filter((protocol) => new RegExp(`\\b${protocol}\\b`).test(text));
}

/** `80`, `80-89` or `{ 80, 90-99 }`. */
function readPorts(text: string): readonly Range[] {
  return [...text.matchAll(/(\d+)(?:-(\d+))?/g)].map(([, first, last = first]) => ({
    first: Number(first),
    last: Number(last),
  }));
}
