import type { Waiting } from '#host';
import {
  deleteNeighbour,
  type Link,
  listAddresses,
  listNeighbours,
  NetlinkError,
  type NetlinkSocket,
} from '#netlink';
import { addressInAlias } from '../model/names.ts';

/**
 * Addresses that are not free although no claim of ours says so: the host's own on whichever link, those of guests
 * whose VM another agent started on the same bridge, and those that somebody on it was seen to answer for, such as
 * guests of whoever made the bridge. Who is on the bridge and has never spoken with the host is not seen.
 */
export async function addressesInUse(
  netlink: NetlinkSocket,
  { bridge, links }: { readonly bridge: Link; readonly links: readonly Link[] },
  waiting: Waiting,
): Promise<ReadonlySet<string>> {
  const own = await listAddresses(netlink, waiting);
  const seen = await listNeighbours(netlink, waiting);
  const taps = links.filter(({ master }) => master === bridge.index);
  return new Set([
    ...own.map(({ address }) => address),
    ...seen.filter(({ linkIndex }) => linkIndex === bridge.index).map(({ address }) => address),
    ...taps.flatMap(({ alias }) => addressInAlias(alias) ?? []),
  ]);
}

/**
 * Forgets who answered for an address that is free again: the entry of a VM that is gone would stay for as long as
 * there are few of them (gc_thresh1), and its address would be avoided.
 */
export async function forgetNeighbour(
  netlink: NetlinkSocket,
  nic: { readonly bridge: Link; readonly ip: string; readonly mac: string },
  waiting: Waiting,
): Promise<void> {
  const known = await listNeighbours(netlink, waiting);
  const entry = known.find(
    ({ linkIndex, address, mac }) =>
      linkIndex === nic.bridge.index && address === nic.ip && mac === nic.mac,
  );
  if (entry === undefined) return;
  try {
    await deleteNeighbour(netlink, entry, waiting);
  } catch (error) {
    if (!(error instanceof NetlinkError && error.errno === 'ENOENT')) throw error;
  }
}
