import { createHash } from 'node:crypto';

/** Marks links as the driver's own, visibly for operators: `ip link` shows it as the alias. */
export const ownAlias = 'nomad-driver-qmp';

/** Prefix of every tap's name; rules match taps by it. */
export const tapPrefix = 'qmp';

/**
 * The MAC address of a VM's NIC, which depends only on the VM's name and the NIC's index. VMs of many hosts share a LAN
 * through bridges, where addresses must not repeat, hence 40 bits of hash: with the 24 that 52:54:00 leaves, a thousand
 * VMs have a collision in 3 % of all cases. 0x52 is locally administered and unicast.
 */
export function nicMac(vm: string, index: number): string {
  return `52:${colons(hash(`mac ${vm} ${index}`, 5))}`;
}

/**
 * The MAC address of the tap, the host's end. It must differ from the guest's, which the bridge would otherwise treat as
 * the host's own, and it is high, because a bridge without a fixed address takes the lowest of its ports'
 * (br_stp_recalculate_bridge_id).
 */
export function tapMac(mac: string): string {
  return `fe${mac.slice(2)}`;
}

/**
 * A managed bridge has an address of its own from the start: without one the kernel gives it the lowest of its ports'
 * addresses, which would change as VMs come and go and leave guests with a stale neighbour entry for their gateway.
 */
export function bridgeMac(bridge: string): string {
  return `52:54:00:${colons(hash(`bridge ${bridge}`, 3))}`;
}

/** The address of a network whose prefix is a private one (RFC 4193), made from the bridge's name. */
export function privateAddress6(bridge: string): string {
  return `fd${hash(`prefix ${bridge}`, 5).replace(/^(..)(....)(....)$/, '$1:$2:$3')}::1/64`;
}

/** The tap's name, 11 of the 15 bytes that a link name may have. Each attempt gives another name. */
export function tapName(vm: string, index: number, attempt: number): string {
  return `${tapPrefix}${hash(attempt === 0 ? `tap ${vm} ${index}` : `tap ${vm} ${index} ${attempt}`, 4)}`;
}

/**
 * The alias of a tap or macvtap: its NIC and the addresses that nothing else shows: in a managed network the IPv4 one,
 * which the other goes with, else those of the job. All agents of a host can read it while the VM
 * lives. The kernel allows 255 bytes; a VM name has at most 56 and no spaces.
 */
export function tapAlias(vm: string, index: number, ip?: string, ip6?: string): string {
  const addresses = [ip, ip6].filter((address) => address !== undefined);
  return [`${ownAlias} ${vm}/${index}`, ...addresses].join(' ');
}

export function isAliasOf(alias: string, vm: string, index: number): boolean {
  const whose = tapAlias(vm, index);
  return alias === whose || alias.startsWith(`${whose} `);
}

/** The VM in an alias; undefined for links that are not ours. */
export function ownerInAlias(alias: string): string | undefined {
  return new RegExp(`^${ownAlias} (\\S+)/\\d+(?: |$)`).exec(alias)?.[1];
}

/** The IPv4 address in an alias; undefined for links that are not ours or have none. */
export function addressInAlias(alias: string): string | undefined {
  return addressesInAlias(alias).find((address) => !address.includes(':'));
}

export function addressesInAlias(alias: string): readonly string[] {
  const [, addresses = ''] = new RegExp(`^${ownAlias} \\S+/\\d+ (.+)$`).exec(alias) ?? [];
  return addresses.split(' ').filter((address) => address !== '');
}

/**
 * The nftables table of one state directory. Two agents on a host have two state directories and hence two tables,
 * so that neither's clean-up touches the other's rules.
 */
export function tableName(stateDir: string): string {
  return `nomad_driver_qmp_${hash(stateDir, 4)}`;
}

/**
 * Where the name server of a network listens; guests' questions to port 53 are led there, so that it is in no service's way.
 * Above the ports that Linux and Nomad choose by themselves; each agent has another one on a bridge that they share.
 */
export function resolverPort(table: string, bridge: string): number {
  const [first, count] = [61_000, 4000];
  return first + (Number.parseInt(hash(`resolver ${table} ${bridge}`, 4), 16) % count);
}

/** Where the search for a free address begins: a stable number below `count`. */
export function startingPoint(vm: string, index: number, count: number): number {
  return Number.parseInt(hash(`address ${vm} ${index}`, 6), 16) % count;
}

function colons(hex: string): string {
  return hex.replace(/..(?=.)/g, '$&:');
}

function hash(text: string, bytes: number): string {
  return createHash('sha256')
    .update(text)
    .digest('hex')
    .slice(0, bytes * 2);
}
