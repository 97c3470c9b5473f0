import type { Logger } from '#host';
import { changeLink, type Link, type NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import { isAliasOf } from '../model/names.ts';
import type { OnEvent } from '../model/net.ts';

/** The link of a VM's NIC, by the name that rules know it by. */
export interface NicLink {
  readonly vm: string;
  readonly index: number;
  readonly name: string;
  readonly kind: 'tun' | 'macvtap';
}

interface Reporting {
  readonly log: Logger;
  readonly onEvent: OnEvent;
}

/** The link among these, whatever it is called by now. */
export function nicLinkIn(
  links: readonly Link[],
  { vm, index, name, kind }: NicLink,
): Link | undefined {
  return (
    links.find((link) => link.name === name) ??
    links.find((link) => link.kind === kind && isAliasOf(link.alias, vm, index))
  );
}

/**
 * Gives the link of a running VM its name back where something else on the host has renamed it: no rule filters it by
 * another one. Whether it is there.
 */
export async function restoreName(
  nic: NicLink,
  { netlink, log, onEvent, links }: Reporting & NamedAmong,
  waiting: Waiting,
): Promise<boolean> {
  const link = nicLinkIn(links, nic);
  if (link === undefined || link.name === nic.name) return link !== undefined;
  const { vm, name } = nic;
  await renameLink(netlink, link, name, waiting);
  log.warn('link of a running VM was renamed and has its name again', { vm, name, was: link.name });
  onEvent(vm, `${titleOf(nic)} was called ${link.name}, and was put back to its name`);
  return true;
}

interface NamedAmong {
  readonly netlink: NetlinkSocket;
  /** All that there are. */
  readonly links: readonly Link[];
}

/** Older kernels rename no link that is up. */
export async function renameLink(
  netlink: NetlinkSocket,
  link: Link,
  name: string,
  waiting: Waiting,
): Promise<void> {
  await changeLink(netlink, link, { up: false }, waiting);
  await changeLink(netlink, link, { name }, waiting);
  if (link.up) await changeLink(netlink, link, { up: true }, waiting);
}

/** Reports links that were removed while their VMs run: nothing gives the guest another one. */
export class GoneLinks {
  readonly #looks = new Map<string, number>();

  report(nic: NicLink, { log, onEvent }: Reporting): void {
    const { vm, name, kind } = nic;
    const looks = (this.#looks.get(name) ?? 0) + 1;
    this.#looks.set(name, looks);
    // A tap goes with QEMU, too, whose end is another event: the VM is forgotten by the second look.
    if (looks !== (kind === 'tun' ? 2 : 1)) return;
    log.warn('link of a running VM is gone', { vm, name });
    const advice = kind === 'tun' ? ': restart' : ', with its device: restart';
    const when = kind === 'tun' ? '' : ' once that is back';
    onEvent(vm, `${titleOf(nic)} is gone${advice} the task${when}`);
  }

  /** It is there, or its VM is not. */
  forget(name: string): void {
    this.#looks.delete(name);
  }
}

function titleOf({ kind, name }: NicLink): string {
  return `${kind === 'tun' ? 'Tap' : 'Macvtap'} ${name}`;
}
