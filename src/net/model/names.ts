import { createHash } from 'node:crypto';

/** Marks links as the driver's own, where people see it: `ip link` shows it as the alias. */
export const ownAlias = 'nomad-driver-qmp';

/** What every tap's name begins with; rules know taps by it. */
export const tapPrefix = 'qmp';

/**
 * The MAC address of a VM's NIC: the same whenever and wherever the VM of that name is started. VMs of many hosts meet
 * on a bridge to the LAN and nobody there can tell two of one address apart, hence 40 bits of the name: with the 24
 * that 52:54:00 leaves, two of a thousand VMs are alike in 3 % of all cases. 0x52 is locally administered and unicast.
 */
export function nicMac(vm: string, index: number): string {
  return `52:${colons(hash(`mac ${vm} ${index}`, 5))}`;
}

/**
 * The host's end of that cable. It must not be the guest's, which the bridge would then take for the host's own; and it
 * is higher than any other, for a bridge without a fixed address takes the lowest of its ports'
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

/** The tap's name: 11 bytes of the 15 a link name may have. Further attempts give further names. */
export function tapName(vm: string, index: number, attempt: number): string {
  return `${tapPrefix}${hash(attempt === 0 ? `tap ${vm} ${index}` : `tap ${vm} ${index} ${attempt}`, 4)}`;
}

/**
 * What a tap's alias says: whose it is and, in a managed network, which address it has. Every agent on a host sees it,
 * for as long as the VM lives. The kernel takes up to 255 bytes; a VM name is at most 56, without spaces.
 */
export function tapAlias(vm: string, index: number, ip?: string): string {
  const whose = `${ownAlias} ${vm}/${index}`;
  return ip === undefined ? whose : `${whose} ${ip}`;
}

export function isAliasOf(alias: string, vm: string, index: number): boolean {
  const whose = tapAlias(vm, index);
  return alias === whose || alias.startsWith(`${whose} `);
}

/** The address that an alias says; undefined for links that are not ours, or have none. */
export function addressInAlias(alias: string): string | undefined {
  return new RegExp(`^${ownAlias} \\S+ (\\S+)$`).exec(alias)?.[1];
}

/**
 * The nftables table of one state directory. Two agents on a host have two state directories and hence two tables,
 * so that neither's clean-up touches the other's rules.
 */
export function tableName(stateDir: string): string {
  return `nomad_driver_qmp_${hash(stateDir, 4)}`;
}

/** Where the search for a free place begins: a stable number below `count`. */
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
