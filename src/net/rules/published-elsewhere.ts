import { type Family, type ListedChain, parseChains } from './listed-chains.ts';
import {
  type ElementsOf,
  type Match,
  type PublishedElsewhere,
  readRule,
} from './published-rule.ts';

/**
 * Output of `nft list ruleset` → the ports that are published by Docker, podman, CNI, kube-proxy and the like. Only rules
 * that hold for packets from anywhere: one that asks for more, such as a certain sender, takes a port from some only.
 */
export function findPublished(
  text: string,
  elementsOf: ElementsOf = () => [],
): readonly PublishedElsewhere[] {
  const byTable = Map.groupBy(parseChains(text), ({ table }) => table);
  return [...byTable.values()].flatMap((chains) => {
    const byName = new Map(chains.map((chain) => [chain.name, chain]));
    const walk = { byName, elementsOf, depth: 0 };
    return chains.filter(isFirst).flatMap((chain) => follow(chain, ofTable[chain.family], walk));
  });
}

/** The sets and maps whose elements `findPublished` asks for: a listing of all rules has none of them. */
export function setsOfPublished(text: string): readonly string[] {
  const asked = new Set<string>();
  // Tables of iptables, which may have tens of thousands of rules, name none.
  if (!/ (?:daddr|vmap) @/.test(text)) return [];
  findPublished(text, (object) => {
    asked.add(object);
    return [];
  });
  return [...asked];
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

interface Walk {
  /** The chains of the table. */
  readonly byName: ReadonlyMap<string, ListedChain>;
  readonly elementsOf: ElementsOf;
  readonly depth: number;
}

function follow(chain: ListedChain, before: Match, walk: Walk): readonly PublishedElsewhere[] {
  return chain.rules.flatMap((rule) =>
    readRule(rule, chain, walk.elementsOf).flatMap(({ match, to }) => {
      const all = { ...before, ...match };
      if (to === undefined) return published(all);
      const next = walk.byName.get(to);
      if (next === undefined || walk.depth === maxDepth) return [];
      return follow(next, all, { ...walk, depth: walk.depth + 1 });
    }),
  );
}

function published(match: Match): readonly PublishedElsewhere[] {
  const { chain = '', ports = [], protocols = ['tcp', 'udp'], family, addresses } = match;
  const usual = { chain, protocols, ...(family !== undefined && { family }) };
  return ports.flatMap((range) => {
    if (addresses === undefined) return [{ ...usual, ...range }];
    return addresses.map((address) => ({ ...usual, ...range, address }));
  });
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
