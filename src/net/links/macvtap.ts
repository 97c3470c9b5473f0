import { closeAside, type Logger, openMacvtap } from '#host';
import {
  changeLink,
  createLink,
  deleteLink,
  findLink,
  type Link,
  listLinks,
  type MacvtapMode,
  type NetlinkSocket,
} from '#netlink';
import type { MacvtapNic, Waiting } from '#spec';
import { asNetError, NetError } from '../model/error.ts';
import { isAliasOf, tapAlias } from '../model/names.ts';
import type { OnEvent } from '../model/net.ts';
import { changedSysctls, writeSysctls } from '../model/sysctl.ts';
import { nicLinkIn } from './nic-link.ts';
import { silence } from './tap-settings.ts';

/** A macvtap to be made. */
export interface MacvtapPlan {
  readonly vm: string;
  readonly index: number;
  readonly name: string;
  /** Left out: that of the device, which is also the guest's with `passthrough`. */
  readonly mac?: string;
  readonly mode: MacvtapNic['mode'];
  readonly queues: number;
  /** Those of the job. */
  readonly ip?: string;
  readonly ip6?: string;
}

const modes: Readonly<Record<MacvtapNic['mode'], MacvtapMode>> = {
  bridge: 'bridge',
  private: 'private',
  vepa: 'vepa',
  passthrough: 'passthru',
};

/** Each attempt gives the link another index, and with it another device file. */
const attempts = 8;

/**
 * Makes the link on the device and opens its queues. Unlike a tap it does not go with the process that has it open: the
 * caller has written down how to remove it.
 */
export async function makeMacvtap(
  netlink: NetlinkSocket,
  plan: MacvtapPlan,
  lower: Link,
  waiting: Waiting,
): Promise<{ readonly fds: readonly number[]; readonly link: Link }> {
  const { vm, name } = plan;
  const what = `VM ${vm}: making macvtap ${name} on ${lower.name} failed`;
  return await asNetError(what, async () => {
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      const link = await create(netlink, plan, lower, waiting);
      const fds = await openQueues(link, plan.queues);
      if (fds !== undefined) return { fds, link };
      await deleteLink(netlink, link, waiting);
    }
    throw new NetError(
      'host',
      `${what}: /dev has no device file of it, is udev or devtmpfs missing?`,
    );
  });
}

async function create(
  netlink: NetlinkSocket,
  { vm, index, name, mac, mode, ip, ip6 }: MacvtapPlan,
  lower: Link,
  waiting: Waiting,
): Promise<Link> {
  const kind = { kind: 'macvtap', lowerIndex: lower.index, mode: modes[mode] } as const;
  await createLink(netlink, { ...kind, name, ...(mac !== undefined && { address: mac }) }, waiting);
  const link = await findLink(netlink, name, waiting);
  if (link === undefined) throw new NetError('host', `VM ${vm}: macvtap ${name} disappeared`);
  await writeSysctls(silence(name));
  // With passthrough the kernel gives it the device's address, whatever was asked for (macvlan_common_newlink).
  const address = mac === undefined || mac === link.address ? {} : { address: mac };
  await changeLink(netlink, link, { alias: tapAlias(vm, index, ip, ip6), ...address }, waiting);
  await changeLink(netlink, link, { up: true }, waiting);
  return { ...link, ...address };
}

/** Undefined when the device file is another link's. */
async function openQueues(link: Link, queues: number): Promise<readonly number[] | undefined> {
  const fds: number[] = [];
  while (fds.length < queues) {
    const fd = await openMacvtap(link);
    if (fd === undefined) {
      await closeAside(...fds);
      return undefined;
    }
    fds.push(fd);
  }
  return fds;
}

/** Takes a macvtap up again that something else on the host set down, and gives it its settings again. */
export async function restoreMacvtap(
  { vm, link: name }: { readonly vm: string; readonly link: string },
  {
    netlink,
    log,
    onEvent,
  }: {
    readonly netlink: NetlinkSocket;
    readonly log: Logger;
    readonly onEvent: OnEvent;
  },
  waiting: Waiting,
): Promise<void> {
  return asNetError(`VM ${vm}: taking up its macvtap ${name} again failed`, async () => {
    const link = await findLink(netlink, name, waiting);
    if (link === undefined) return;
    const changed = await changedSysctls(silence(name));
    if (changed.length > 0) {
      await writeSysctls(silence(name));
      log.warn('macvtap was changed and was put back', { vm, link: name, changed });
      onEvent(vm, `Macvtap ${name} was changed (${changed.join(', ')}) and was put back`);
    }
    if (link.up) return;
    await changeLink(netlink, link, { up: true }, waiting);
    log.warn('macvtap was down and was taken up again', { vm, link: name });
    onEvent(vm, `Macvtap ${name} was down and was taken up again`);
  });
}

/** Removes the macvtap of a NIC. One without an alias is of a start that was interrupted right after making it. */
export async function removeMacvtap(
  netlink: NetlinkSocket,
  nic: { readonly link: string; readonly vm: string; readonly index: number },
  waiting: Waiting,
): Promise<void> {
  const own = { ...nic, name: nic.link, kind: 'macvtap' } as const;
  const link = nicLinkIn(await listLinks(netlink, waiting), own);
  if (link?.kind !== 'macvtap') return;
  if (link.alias !== '' && !isAliasOf(link.alias, nic.vm, nic.index)) return;
  await deleteLink(netlink, link, waiting);
}
