import { createHash } from 'node:crypto';

/** Marks links as the driver's own, where people see it: `ip link` shows it as the alias. */
export const ownAlias = 'nomad-driver-qmp';

// 52:54:00 is what QEMU and libvirt use: locally administered, unicast, and known to people as "a virtual machine".
const vendor = '52:54:00';

/** The MAC address of a VM's NIC: the same whenever and wherever the VM of that name is started. */
export function nicMac(vm: string, index: number): string {
  return `${vendor}:${hash(`mac ${vm} ${index}`, 3).replace(/..(?=.)/g, '$&:')}`;
}

/**
 * A managed bridge has an address of its own from the start: without one the kernel gives it the lowest of its ports'
 * addresses, which would change as VMs come and go and leave guests with a stale neighbour entry for their gateway.
 */
export function bridgeMac(bridge: string): string {
  return `${vendor}:${hash(`bridge ${bridge}`, 3).replace(/..(?=.)/g, '$&:')}`;
}

/** The tap's name: 11 bytes of the 15 a link name may have. Further attempts give further names. */
export function tapName(vm: string, index: number, attempt: number): string {
  return `qmp${hash(attempt === 0 ? `tap ${vm} ${index}` : `tap ${vm} ${index} ${attempt}`, 4)}`;
}

/** What a tap's alias says: whose it is. The kernel takes up to 255 bytes; a VM name is at most 56. */
export function tapAlias(vm: string, index: number): string {
  return `${ownAlias} ${vm}/${index}`;
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

function hash(text: string, bytes: number): string {
  return createHash('sha256')
    .update(text)
    .digest('hex')
    .slice(0, bytes * 2);
}
