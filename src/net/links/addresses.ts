import {
  deleteNeighbour,
  type Link,
  listAddresses,
  listNeighbours,
  NetlinkError,
  type NetlinkSocket,
} from '#netlink';
import type { Waiting } from '#spec';
import { addressInAlias, ownerInAlias } from '../model/names.ts';

/**
 * Addresses that are in use without a claim of ours, and what uses each: the host's own on all links, those of other agents' VMs on the same
 * bridge, and those of neighbours that answered there, such as other guests on a foreign bridge. A machine on the bridge
 * that never communicated with the host is not found.
 */
export async function addressesInUse(
  netlink: NetlinkSocket,
  { bridge, links }: { readonly bridge: Link; readonly links: readonly Link[] },
  waiting: Waiting,
): Promise<ReadonlyMap<string, string>> {
  const own = await listAddresses(netlink, waiting);
  const seen = await listNeighbours(netlink, waiting);
  const taps = links.filter(({ master }) => master === bridge.index);
  const user = (address: string, name: string): readonly [string, string] => [address, name];
  return new Map([
    ...seen
      .filter(({ linkIndex }) => linkIndex === bridge.index)
      .map(({ address, mac }) => user(address, `the machine with MAC address ${mac}`)),
    ...own.map(({ address }) => user(address, 'this host')),
    ...taps.flatMap(({ alias }) => {
      const address = addressInAlias(alias);
      return address === undefined ? [] : [user(address, `VM ${ownerInAlias(alias)}`)];
    }),
  ]);
}

/**
 * Removes the neighbour entries of addresses that are free again: the kernel keeps entries while there are few of them
 * (gc_thresh1), and the addresses would be avoided.
 */
export async function forgetNeighbour(
  netlink: NetlinkSocket,
  nic: { readonly bridge: Link; readonly addresses: readonly string[]; readonly mac: string },
  waiting: Waiting,
): Promise<void> {
  const known = await listNeighbours(netlink, waiting);
  const entries = known.filter(
    ({ linkIndex, address, mac }) =>
      linkIndex === nic.bridge.index && nic.addresses.includes(address) && mac === nic.mac,
  );
  for (const entry of entries) {
    await deleteNeighbour(netlink, entry, waiting).catch(unlessGone);
  }
}

function unlessGone(error: unknown): void {
  if (!(error instanceof NetlinkError && error.errno === 'ENOENT')) throw error;
}
