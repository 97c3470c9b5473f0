import type { ManagedNetwork } from '#spec';
import { readSysctl } from '../model/sysctl.ts';

/** Whether the host has no IPv6, or the operator disabled it. */
export function isIpv6Off(): boolean {
  return readSysctl('net/ipv6/conf/all/disable_ipv6') !== '0';
}

/** Where the host has IPv6 disabled, a network has none either: its bridge would have an address that goes nowhere. */
export function asHostHas<N extends Pick<ManagedNetwork, 'address6'>>(network: N): N {
  return isIpv6Off() ? { ...network, address6: undefined } : network;
}

export const bridgeNetfilter6 = 'net.bridge.bridge-nf-call-ip6tables';

/**
 * Whether replies to ::1 that come through a bridge are dropped: br_netfilter translates them back before the kernel checks
 * whether such an address may come from a link.
 */
export function dropsLoopback6(): boolean {
  return readSysctl(bridgeNetfilter6.replaceAll('.', '/')) === '1';
}
