import { legacyTable } from './legacy-rules.ts';

/** A chain at a hook on which packets of a bridge are dropped, there or further on. */
interface Dropper {
  /** Family and name. */
  readonly table: string;
  readonly name: string;
  /** The chains that these packets are sent to before. */
  readonly met: readonly string[];
  /** What comes from the bridge to the host, else what is forwarded. */
  readonly isInput: boolean;
}

type Way = 'i' | 'o';

/**
 * The command with which an operator lets the packets of a bridge, or of taps, pass a chain; of forwarded ones both what comes
 * and what goes. The driver's own rules still keep guests from the host.
 */
export function letPass({ table, name, met, isInput }: Dropper, link: string): string {
  if (table === 'inet firewalld') {
    // A rule in its table is gone when it reloads.
    return `firewall-cmd --permanent --zone=trusted --add-interface=${link} && firewall-cmd --reload`;
  }
  const each = (command: (way: Way) => string): string =>
    (isInput ? (['i'] as const) : (['i', 'o'] as const)).map(command).join(' && ');
  const program = iptablesOf(table, name);
  if (program === undefined) {
    return each((way) => `nft insert rule ${table} ${name} ${way}ifname ${link} accept`);
  }
  // ufw and Docker make their other chains again whenever they start.
  if (met.some((chain) => chain.startsWith('ufw'))) {
    const ways = { i: 'in', o: 'out' } as const;
    return each((way) => `ufw ${isInput ? '' : 'route '}allow ${ways[way]} on ${link}`);
  }
  const chain = met.includes('DOCKER-USER') ? 'DOCKER-USER' : name;
  return each((way) => `${program} -I ${chain} -${way} ${link} -j ACCEPT`);
}

/** iptables manages tables of certain names and has no hooks in lower case. */
function iptablesOf(table: string, chain: string): string | undefined {
  const [, legacy] = legacyTable.exec(table) ?? [];
  if (legacy !== undefined) return legacy;
  if (!/^[A-Z]/.test(chain)) return undefined;
  if (table === 'ip filter') return 'iptables';
  return table === 'ip6 filter' ? 'ip6tables' : undefined;
}
