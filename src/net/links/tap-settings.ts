import type { Link } from '#netlink';
import { tapMac } from '../model/names.ts';
import { changedSysctls, type Sysctls } from '../model/sysctl.ts';

/** The tap of a NIC on a bridge, by what it is to have. */
export interface TapOfNic {
  readonly tap: string;
  /** The guest's. */
  readonly mac: string;
  readonly managed: boolean;
  /** The bridge's MTU when its VM was started; unknown of VMs that an earlier version started. */
  readonly tapMtu?: number | undefined;
}

export function tapSysctls(tap: string): Sysctls {
  // A bridge hands frames to 01:80:c2:00:00:0X to the host as if they had come to the port itself: no answer to ARP
  // from there, or guests could fill the host's neighbour table.
  return { ...silence(tap), [`net/ipv4/conf/${tap}/arp_ignore`]: '8' };
}

/** Settings with which the host has no IPv6 address of its own on a guest's link and takes no advertisements there. */
export function silence(link: string): Sysctls {
  const conf = `net/ipv6/conf/${link}`;
  return { [`${conf}/accept_ra`]: '0', [`${conf}/disable_ipv6`]: '1' };
}

/** Whether a tap is missing in its bridge. One that is in another bridge was moved there on purpose. */
export function isOutside(tap: Link | undefined, bridge: Link | undefined): boolean {
  if (tap === undefined) return false;
  return tap.master === undefined || (tap.master === bridge?.index && !tap.up);
}

/**
 * The bridge drops what is longer than its port carries. It is compared with its start as well: unless a bridge's own MTU was
 * set, it becomes as small as that of any port.
 */
export function wantedMtu(
  bridge: Pick<Link, 'mtu'>,
  { tapMtu = 0 }: Pick<TapOfNic, 'tapMtu'>,
): number {
  return Math.max(bridge.mtu, tapMtu);
}

/** What another program has changed of a tap in its bridge, as operators know it; [] where nothing. */
export async function changedOfTap(
  link: Link | undefined,
  bridge: Link | undefined,
  nic: TapOfNic,
): Promise<readonly string[]> {
  if (link === undefined || bridge === undefined || link.master !== bridge.index) return [];
  const { tap, mac, managed } = nic;
  return [
    // On a bridge of others it is theirs to decide.
    ...(managed && link.hairpin === false ? ['hairpin'] : []),
    ...(link.address === tapMac(mac) ? [] : ['address']),
    ...(link.mtu < wantedMtu(bridge, nic) ? ['mtu'] : []),
    ...(await changedSysctls(tapSysctls(tap))),
  ];
}
