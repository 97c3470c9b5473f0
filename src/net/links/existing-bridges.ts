import { listLinks, type NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';

/** Those of the bridges that exist. */
export async function existingBridges(
  netlink: NetlinkSocket,
  bridges: readonly string[],
  waiting: Waiting,
): Promise<readonly string[]> {
  if (bridges.length === 0) return [];
  const links = await listLinks(netlink, waiting);
  return links
    .filter(({ kind, name }) => kind === 'bridge' && bridges.includes(name))
    .map(({ name }) => name);
}
