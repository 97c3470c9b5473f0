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
