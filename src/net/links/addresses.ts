import {
  deleteNeighbour,
  type Link,
  listAddresses,
  listNeighbours,
  NetlinkError,
  type NetlinkSocket,
} from '#netlink';
import type { Waiting } from '#spec';
import { addressInAlias } from '../model/names.ts';

/**
 * Addresses that are in use without a claim of ours: the host's own on all links, those of other agents' VMs on the same
 * bridge, and those of neighbours that answered there, such as other guests on a foreign bridge. A machine on the bridge
 * that never communicated with the host is not found.
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
 * Removes the neighbour entry of an address that is free again: the kernel keeps entries while there are few of them
 * (gc_thresh1), and the address would be avoided.
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
