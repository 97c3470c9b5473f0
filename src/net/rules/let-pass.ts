/** A chain that drops what is forwarded for a bridge. */
interface Dropper {
  /** Family and name. */
  readonly table: string;
  readonly name: string;
  /** All chains of its table. */
  readonly siblings: readonly string[];
}

/** The command with which an operator lets the packets of a bridge pass a chain; both for what comes and what goes. */
export function letPass({ table, name, siblings }: Dropper, bridge: string): string {
  if (table === 'inet firewalld') {
    // A rule in its table is gone when it reloads. The driver's own rules still keep guests from the host.
    return `firewall-cmd --permanent --zone=trusted --add-interface=${bridge} && firewall-cmd --reload`;
  }
  const program = iptablesOf(table, name);
  if (program === undefined) {
    return both((way) => `nft insert rule ${table} ${name} ${way}ifname ${bridge} accept`);
  }
  // Docker makes its other chains again whenever it starts.
  const chain = siblings.includes('DOCKER-USER') ? 'DOCKER-USER' : name;
  return both((way) => `${program} -I ${chain} -${way} ${bridge} -j ACCEPT`);
}

/** iptables manages tables of certain names and has no chains in lower case of its own. */
function iptablesOf(table: string, chain: string): string | undefined {
  if (!/^[A-Z]/.test(chain)) return undefined;
  if (table === 'ip filter') return 'iptables';
  return table === 'ip6 filter' ? 'ip6tables' : undefined;
}

function both(command: (way: 'i' | 'o') => string): string {
  return `${command('i')} && ${command('o')}`;
}
