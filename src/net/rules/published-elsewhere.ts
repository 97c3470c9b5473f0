import type { Protocol } from '#spec';
import { type Family, type ListedChain, parseChains } from './listed-chains.ts';

/** Ports of this host that a rule of another program leads elsewhere, whatever listens on them. */
export interface PublishedElsewhere {
  /** Family, table and chain. */
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
type Match = Partial<Pick<PublishedElsewhere, 'protocols' | 'family' | 'address'>> & {
  readonly ports?: readonly Range[];
};

type Range = Pick<PublishedElsewhere, 'first' | 'last'>;

type Verdict = { readonly jump: string } | 'translate';

/**
 * Output of `nft list ruleset` → the ports that are published by Docker, podman, CNI, kube-proxy and the like. Only rules
 * that hold for packets from anywhere: one that asks for more, such as a certain sender, takes a port from some only.
 */
export function findPublished(text: string): readonly PublishedElsewhere[] {
  const byTable = Map.groupBy(parseChains(text), ({ table }) => table);
  return [...byTable.values()].flatMap((chains) => {
    const byName = new Map(chains.map((chain) => [chain.name, chain]));
    const walk = { byName, depth: 0 };
    return chains.filter(isFirst).flatMap((chain) => follow(chain, ofTable[chain.family], walk));
  });
}

const ofTable: Readonly<Record<Family, Match>> = {
  ip: { family: 4 },
  ip6: { family: 6 },
  inet: {},
  // No addresses are translated there.
  bridge: {},
};

// The kernel allows 16 (NFT_JUMP_STACK_SIZE).
const maxDepth = 16;

function isFirst({ rules }: ListedChain): boolean {
  return /^type nat hook prerouting /.test(rules[0] ?? '');
}

function follow(
  chain: ListedChain,
  before: Match,
  walk: { readonly byName: ReadonlyMap<string, ListedChain>; readonly depth: number },
): readonly PublishedElsewhere[] {
  return chain.rules.flatMap((rule) => {
    const read = readRule(rule);
    if (read === undefined) return [];
    const match = { ...before, ...read.match };
    if (read.verdict === 'translate') return published(chain, match);
    const next = walk.byName.get(read.verdict.jump);
    if (next === undefined || walk.depth === maxDepth) return [];
    return follow(next, match, { ...walk, depth: walk.depth + 1 });
  });
}

function published({ table, name }: ListedChain, match: Match): readonly PublishedElsewhere[] {
  const { ports = [], protocols = ['tcp', 'udp'], family, address } = match;
  const chain = `${table} ${name}`;
  return ports.map((range) => ({
    chain,
    protocols,
    ...range,
    ...(family !== undefined && { family }),
    ...(address !== undefined && { address }),
  }));
}

type Reader = readonly [pattern: RegExp, read: (words: readonly string[]) => Match];

const readers: readonly Reader[] = [
  [/^fib daddr type local/, () => ({})],
  [/^iifname != (?:"[^"]*"|\{[^}]*\})/, () => ({})],
  [/^ip daddr != 127\.\S+/, () => ({})],
  [/^ip daddr (\d[\d./]*)/, ([address = '']) => ({ family: 4, address })],
  [/^ip6 daddr != (?:::1|fe80::\S+)/, () => ({})],
  [/^ip6 daddr ([\da-f:][\da-f:./]*)/, ([address = '']) => ({ family: 6, address })],
  [/^meta nfproto ipv4/, () => ({ family: 4 })],
  [/^meta nfproto ipv6/, () => ({ family: 6 })],
  [/^(?:meta l4proto|ip protocol) (tcp|udp|\{[^}]*\})/, ([list = '']) => readProtocols(list)],
  [
    /^(tcp|udp|th) dport (\d[\d-]*|\{[^}]*\})/,
    ([protocol = '', list = '']) => ({ ...readProtocols(protocol), ports: readPorts(list) }),
  ],
  [/^counter(?: packets \d+ bytes \d+| name \S+)?/, () => ({})],
];

/** Undefined when it asks for something that is not read here. */
function readRule(rule: string): { readonly match: Match; readonly verdict: Verdict } | undefined {
  let match: Match = {};
  let rest = rule.replace(/ comment "[^"]*"$/, '').trim();
  for (;;) {
    const found = readers.find(([pattern]) => pattern.test(rest));
    if (found === undefined) break;
    const [all = '', ...words] = found[0].exec(rest) ?? [];
    match = { ...match, ...found[1](words) };
    rest = rest.slice(all.length).trim();
  }
  const [, jump] = /^(?:jump|goto) (\S+)$/.exec(rest) ?? [];
  if (jump !== undefined) return { match, verdict: { jump } };
  // The second is how nft shows a rule of iptables that it can't translate.
  if (!/^(dnat|redirect)\b|^xt target "(DNAT|REDIRECT)"/.test(rest)) return undefined;
  const [, to] = /^dnat (ip6?) to/.exec(rest) ?? [];
  if (to !== undefined) match = { ...match, family: to === 'ip' ? 4 : 6 };
  const [, protocol, list] = /\b(tcp|udp|th) dport map \{([^}]*)\}/.exec(rest) ?? [];
  if (protocol === undefined || list === undefined) return { match, verdict: 'translate' };
  const keys = list.split(',').map((element) => element.split(' : ')[0] ?? '');
  const ports = readPorts(keys.join(','));
  return { match: { ...match, ...readProtocols(protocol), ports }, verdict: 'translate' };
}

function readProtocols(text: string): Pick<Match, 'protocols'> {
  const protocols = (['tcp', 'udp'] as const).filter((protocol) =>
    new RegExp(`\\b${protocol}\\b`).test(text),
  );
  return protocols.length === 0 ? {} : { protocols };
}

/** `80`, `80-89` or `{ 80, 90-99 }`. */
function readPorts(text: string): readonly Range[] {
  return [...text.matchAll(/(\d+)(?:-(\d+))?/g)].map(([, first, last = first]) => ({
    first: Number(first),
    last: Number(last),
  }));
}

/** Output of `nft list map` for one of the maps that agents of this driver publish ports with → the ports in it. */
export function readPublishedMap(text: string, chain: string): readonly PublishedElsewhere[] {
  const family = /: ipv6_addr \. inet_service$/m.test(text) ? 6 : 4;
  const elements = text.matchAll(/(?:([\da-f][\da-f.:]*|::\S*) \. )?\b(tcp|udp) \. (\d+) : /g);
  return [...elements].map(([, address, protocol, port]) => ({
    chain,
    protocols: protocol === 'udp' ? ['udp'] : ['tcp'],
    first: Number(port),
    last: Number(port),
    family,
    ...(address !== undefined && { address }),
  }));
}
