import { findLink } from '#netlink';
import type { Waiting } from '#spec';
import { forgetNeighbour } from '../links/addresses.ts';
import { removeBridge } from '../links/bridge.ts';
import type { NetUndo } from '../model/undo.ts';
import { endFlowsOf } from '../rules/stale-flows.ts';
import type { ManagedHost } from './managed-host.ts';

/**
 * Releases a NIC's address and with it its ports, its DHCP answer, its rules and what the kernel remembers about the
 * address.
 */
export async function dropClaim(
  { bridge, ip, vm, index }: Extract<NetUndo, { kind: 'net-claim' }>,
  { netlink, store, responders, rules, log }: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  await using _ = await store.lock(waiting);
  const claim = await store.claim(bridge, ip);
  const isOwn = claim?.vm === vm && claim.index === index;
  try {
    if (isOwn) await store.dropClaim(bridge, ip);
  } finally {
    responders.forget(bridge);
    // Also when the claim is gone: an interrupted teardown may have stopped right after removing it.
    await rules.apply(waiting);
  }
  if (claim !== undefined && !isOwn) return;
  await endFlowsOf(ip, { log, ...waiting });
  const link = await findLink(netlink, bridge, waiting);
  if (link === undefined || claim === undefined) return;
  await forgetNeighbour(netlink, { bridge: link, ip, mac: claim.mac }, waiting);
}

/** Removes a network from the host when it has no VM. */
export async function dropUnused(
  bridge: string,
  { netlink, store, responders, rules, log }: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  await using _ = await store.lock(waiting);
  const record = await store.record(bridge);
  if (record !== undefined && (await store.claims(bridge)).length > 0) return;
  await responders.stop(bridge);
  if (record?.owned) await removeBridge(netlink, bridge, { log, ...waiting });
  await store.dropNetwork(bridge);
  // Also without a record: an interrupted teardown may have stopped right after removing it.
  await rules.apply(waiting);
}
