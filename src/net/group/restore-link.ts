import {
  addAddress,
  changeLink,
  findLink,
  listAddresses,
  listLinks,
  NetlinkSocket,
} from '#netlink';
import type { Waiting } from '#spec';
import { type GoneLinks, restoreName } from '../links/nic-link.ts';
import type { GroupNic } from '../model/group.ts';
import type { GroupHost } from './group-host.ts';
import { pairPrefix, pairPrefix6 } from './plan-pair.ts';

/** Gives a tap its name back, which its rules know it by, or reports that it is gone. Whether it is there. */
export async function restoreTapName(
  { vm, index, netns, tap }: GroupNic,
  host: Pick<GroupHost, 'log' | 'onEvent'> & { readonly gone: GoneLinks },
  waiting: Waiting,
): Promise<boolean> {
  const own = { vm, index, name: tap, kind: 'tun' } as const;
  await using there = await NetlinkSocket.open({ netns });
  const links = await listLinks(there, waiting);
  const isThere = await restoreName(own, { ...host, netlink: there, links }, waiting);
  if (isThere) host.gone.forget(tap);
  else host.gone.report(own, host);
  return isThere;
}

/** Takes a tap up again in its namespace, with its addresses; whether it was down or lacked one. Its rules are there. */
export async function restoreLink(nic: GroupNic, waiting: Waiting): Promise<boolean> {
  const { netns, tap, gateway, six } = nic;
  await using there = await NetlinkSocket.open({ netns });
  const link = await findLink(there, tap, waiting);
  if (link === undefined) return false;
  // First: the kernel takes IPv6 addresses off a link that goes down.
  if (!link.up) await changeLink(there, link, { up: true }, waiting);
  const linkIndex = link.index;
  const own = (await listAddresses(there, waiting)).map(({ address }) => address);
  const wanted = [
    { linkIndex, address: gateway, prefix: pairPrefix },
    ...(six === undefined ? [] : [{ linkIndex, address: six.gateway, prefix: pairPrefix6 }]),
  ];
  const missing = wanted.filter(({ address }) => !own.includes(address));
  for (const each of missing) await addAddress(there, each, waiting);
  return !link.up || missing.length > 0;
}
