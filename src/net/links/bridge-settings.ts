import type { Link } from '#netlink';
import type { ManagedNetwork } from '#spec';
import { ownAlias } from '../model/names.ts';
import { changedSysctls, type Sysctls } from '../model/sysctl.ts';

/**
 * What marks a bridge as ours. Frames to 01:80:c2:00:00:0X pass no rule on what comes in, and the bridge must not learn from
 * them: a guest could name its neighbour as their sender and receive that neighbour's traffic (br_handle_frame,
 * __br_handle_local_finish).
 */
export const ownBridge = { alias: ownAlias, bridge: { linkLocalLearn: false } } as const;

export function bridgeSysctls({
  bridge,
  address6,
}: Pick<ManagedNetwork, 'bridge' | 'address6'>): Sysctls {
  const conf6 = `net/ipv6/conf/${bridge}`;
  return {
    // Answers to what the host sent from 127.0.0.1 come back over the bridge; the ruleset drops everything else that
    // is addressed to 127.0.0.0/8 there.
    [`net/ipv4/conf/${bridge}/route_localnet`]: '1',
    // The host is the router here. In a network with IPv4 only it has no address of the link either. No guest can have the
    // host's address, so the host does not ask whether one has, which would take until the first guest is there.
    [`${conf6}/accept_ra`]: '0',
    [`${conf6}/accept_dad`]: '0',
    // A router is known by its link-local address (RFC 4861, 4.2), which other links of the host may do without.
    [`${conf6}/addr_gen_mode`]: '0',
    [`${conf6}/disable_ipv6`]: address6 === undefined ? '1' : '0',
  };
}

/** What another program has changed of a bridge of ours, as operators know it; [] where nothing. */
export async function changedOfBridge(
  { linkLocalLearn, mtu }: Link,
  network: Pick<ManagedNetwork, 'bridge' | 'address6' | 'mtu'>,
): Promise<readonly string[]> {
  return [
    ...(linkLocalLearn === true ? ['no_linklocal_learn'] : []),
    ...(network.mtu !== undefined && network.mtu !== mtu ? ['mtu'] : []),
    ...(await changedSysctls(bridgeSysctls(network))),
  ];
}
