import { constants, statSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import { closeFd, openPath } from '#host';
import { changeLink, findLink, type Link, type NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import { route6 } from '../links/forwarding.ts';
import { NetError, netError } from '../model/error.ts';
import type { GroupNic } from '../model/group.ts';
import { writeSysctls } from '../model/sysctl.ts';

/** Whether there is a network namespace at the path, other than the one that this process is in. */
export function isNamespace(path: string): boolean {
  const [there, own, other] = [path, '/proc/self/ns/net', '/proc/self/ns/uts'].map((file) =>
    statSync(file, { throwIfNoEntry: false }),
  );
  // All namespaces are files of one file system of the kernel's, in which no other file is.
  return there !== undefined && there.dev === other?.dev && there.ino !== own?.ino;
}

/** Calls `onGone` once there is no namespace at the path any more: its name has been removed from its directory. */
export function watchNamespace(path: string, onGone: () => void): Disposable {
  const watcher = watch(dirname(path), { persistent: false });
  const look = (): void => {
    if (isNamespace(path)) return;
    watcher.close();
    onGone();
  };
  watcher.on('change', look).on('error', look);
  return { [Symbol.dispose]: () => watcher.close() };
}

/** Throws NetError where the allocation's namespace can't be used. */
export function checkNamespace(vm: string, path: string): void {
  try {
    if (isNamespace(path)) return;
  } catch (cause) {
    throw netError(`VM ${vm}: the network namespace ${path} of its group can't be read`, cause);
  }
  throw new NetError(
    'host',
    `VM ${vm}: ${path}, named by Nomad as the network of its group, is no network namespace, or it is the host's own`,
  );
}

/** Moves a link there, where it is down. Unlike one that is made there, its descriptor does not keep the namespace alive. */
export async function moveLink(
  link: Link,
  path: string,
  { here, there }: { readonly here: NetlinkSocket; readonly there: NetlinkSocket },
  waiting: Waiting,
): Promise<Link> {
  const netnsFd = openPath(path, constants.O_RDONLY);
  try {
    await changeLink(here, link, { netnsFd }, waiting);
  } finally {
    closeFd(netnsFd);
  }
  const moved = await findLink(there, link.name, waiting);
  if (moved === undefined) throw new NetError('host', `tap ${link.name} did not arrive in ${path}`);
  return moved;
}

/** Nomad leaves the loopback of a group without a network down: nothing can have or reach 127.0.0.1 there. */
export async function takeLoopbackUp(there: NetlinkSocket, waiting: Waiting): Promise<void> {
  const loopback = await findLink(there, 'lo', waiting);
  if (loopback?.up === false) await changeLink(there, loopback, { up: true }, waiting);
}

/** Lets the namespace route between the tap and its other links, and 127.0.0.1 be reached through translated addresses. */
export async function setGroupSysctls({
  netns,
  tap,
  six,
}: Pick<GroupNic, 'netns' | 'tap' | 'six'>): Promise<void> {
  const [four, conf6] = [`net/ipv4/conf/${tap}`, `net/ipv6/conf/${tap}`];
  const settings = {
    'net/ipv4/ip_forward': '1',
    [`${four}/route_localnet`]: '1',
    // Answers to ARP for the address of this link only, and only to the guest's.
    [`${four}/arp_ignore`]: '2',
    // A guest whose packet goes back to itself is not sent another way.
    [`${four}/send_redirects`]: '0',
    [`${conf6}/accept_ra`]: '0',
    // No guest can have the namespace's addresses, and one that claims to is not listened to.
    [`${conf6}/accept_dad`]: '0',
    // A router is known by its link-local address (RFC 4861, 4.2), which other links may do without.
    [`${conf6}/addr_gen_mode`]: '0',
    [`${conf6}/disable_ipv6`]: six === undefined ? '1' : '0',
  };
  await writeSysctls(settings, netns);
  if (six !== undefined) await route6(netns);
}

/** Runs `action`, unless the namespace is gone, also if it goes meanwhile. */
export async function whileThere(path: string, action: () => Promise<void>): Promise<void> {
  if (!isNamespace(path)) return;
  try {
    await action();
  } catch (error) {
    if (isNamespace(path)) throw error;
  }
}
