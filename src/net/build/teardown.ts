import { findLink } from '#netlink';
import { formatIpv6, type Waiting } from '#spec';
import { forgetNeighbour } from '../links/addresses.ts';
import { removeBridge } from '../links/bridge.ts';
import type { NetUndo } from '../model/undo.ts';
import { endFlowsOf } from '../rules/stale-flows.ts';
import { type Claim, linkLocalsOf } from '../store/claim.ts';
import { forgetGuests, type ManagedHost, rulesFreshMs } from './managed-host.ts';

/**
 * Releases a NIC's address and with it its ports, its DHCP answer, its rules and what the kernel remembers about the
 * address; the last NIC's together with the network.
 */
export async function dropClaim(
  { bridge, ip, vm, index }: Extract<NetUndo, { kind: 'net-claim' }>,
  host: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  const { store } = host;
  await using _ = await store.lock(waiting);
  const claim = await store.claim(bridge, ip);
  const isOwn = claim?.vm === vm && claim.index === index;
  try {
    // A damaged one names no VM, and the record of its VM has a copy.
    if (isOwn || claim === undefined) await store.dropClaim(bridge, ip);
  } finally {
    forgetGuests(host, bridge);
    // Also when the claim is gone: an interrupted teardown may have stopped right after removing it.
    if (!(await removeIfUnused(bridge, host, waiting))) await host.rules.apply(waiting);
  }
  if (claim !== undefined && !isOwn) return;
  await forgetAddress({ bridge, ...(claim ?? { ip }) }, host, waiting);
}

/**
 * Removes what the kernel remembers about addresses whose claim and rules are gone: their connections, and with their MAC
 * address the neighbour entries.
 */
export async function forgetAddress(
  claim: { readonly bridge: string } & Pick<Claim, 'ip'> & Partial<Claim>,
  { netlink, log }: Pick<ManagedHost, 'netlink' | 'log'>,
  waiting: Waiting,
): Promise<void> {
  const { bridge, ip, ip6, mac } = claim;
  const linkLocals = mac === undefined ? [] : linkLocalsOf({ ...claim, mac }).map(formatIpv6);
  const addresses = ip6 === undefined ? [ip] : [ip, ip6, ...linkLocals];
  await endFlowsOf(addresses, { log, ...waiting });
  const link = await findLink(netlink, bridge, waiting);
  if (link === undefined || mac === undefined) return;
  await forgetNeighbour(netlink, { bridge: link, addresses, mac }, waiting);
}

/** Removes a network from the host when it has no VM. */
export async function dropUnused(
  bridge: string,
  host: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  const { store, rules } = host;
  await using _ = await store.lock(waiting);
  if (await removeIfUnused(bridge, host, waiting)) return;
  // Earlier versions removed the record first, so a teardown that was interrupted then left the rules.
  const lost = (await store.record(bridge)) === undefined;
  if (lost && !(await rules.isCurrent(rulesFreshMs))) await rules.apply(waiting);
}

/** true: removed, its record last, so that an interrupted teardown is repeated. The caller holds the lock. */
async function removeIfUnused(
  bridge: string,
  { netlink, store, servers, rules, log }: ManagedHost,
  waiting: Waiting,
): Promise<boolean> {
  const record = await store.record(bridge);
  if (record === undefined || (await store.isClaimed(bridge))) return false;
  for (const each of servers) await each.stop(bridge);
  await rules.apply(waiting, { without: bridge });
  if (record.owned) await removeBridge(netlink, bridge, { log, ...waiting });
  await store.dropNetwork(bridge);
  return true;
}
