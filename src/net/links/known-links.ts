import type { Logger } from '#host';
import { findLink, listLinks, type NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import { inTurn } from '../model/in-turn.ts';
import type { OnEvent } from '../model/net.ts';
import { decodeMacvtapNicRecord, decodeNicRecord, type KnownNic } from '../model/nic.ts';
import { restoreMacvtap } from './macvtap.ts';
import { isOutside, replugTap } from './tap.ts';

interface LinksHost {
  readonly netlink: NetlinkSocket;
  readonly store: { readonly record: (bridge: string) => Promise<unknown> };
  readonly log: Logger;
  readonly onEvent: OnEvent;
}

interface KnownTap {
  readonly vm: string;
  readonly tap: string;
  readonly bridge: string;
}

/** Macvtaps, and taps on bridges of others, that this process has plugged in or adopted: no store has them. */
export class KnownLinks {
  readonly #host: () => Promise<LinksHost>;
  /** Link → VM. */
  readonly #macvtaps = new Map<string, string>();
  readonly #taps = new Map<string, KnownTap>();

  constructor(host: () => Promise<LinksHost>) {
    this.#host = host;
  }

  /** From now on `restore` looks after it, where the record is one of such a link. */
  keep({ vm, record }: Pick<KnownNic, 'vm' | 'record'>): void {
    const macvtap = decodeMacvtapNicRecord(record);
    if (macvtap !== undefined) this.#macvtaps.set(macvtap.link, vm);
    const nic = decodeNicRecord(record);
    if (nic !== undefined) this.#taps.set(nic.tap, { vm, tap: nic.tap, bridge: nic.bridge });
  }

  forget(link: string): void {
    this.#macvtaps.delete(link);
    this.#taps.delete(link);
  }

  /** Takes up again what something else on the host set down, and puts back what left its bridge. */
  async restore(waiting: Waiting): Promise<void> {
    if (this.#macvtaps.size === 0 && this.#taps.size === 0) return;
    const host = await this.#host();
    const macvtaps = [...this.#macvtaps].map(([link, vm]) => async () => {
      await restoreMacvtap({ vm, link }, host, waiting);
      await this.#reportGone({ vm, link }, host, waiting);
    });
    await inTurn([...macvtaps, () => this.#replug(host, waiting)]);
  }

  /** The kernel removes it with its device, and nothing gives the guest another one while it runs. */
  async #reportGone(
    { vm, link }: { readonly vm: string; readonly link: string },
    { netlink, log, onEvent }: LinksHost,
    waiting: Waiting,
  ): Promise<void> {
    if ((await findLink(netlink, link, waiting)) !== undefined) return;
    // It may have been removed with its VM meanwhile.
    if (!this.#macvtaps.delete(link)) return;
    log.warn('macvtap is gone', { vm, link });
    onEvent(vm, `Macvtap ${link} is gone, with its device: restart the task once that is back`);
  }

  async #replug(host: LinksHost, waiting: Waiting): Promise<void> {
    const taps = [...this.#taps.values()];
    if (taps.length === 0) return;
    const links = new Map(
      (await listLinks(host.netlink, waiting)).map((link) => [link.name, link]),
    );
    for (const nic of taps) {
      const bridge = links.get(nic.bridge);
      if (bridge === undefined || !isOutside(links.get(nic.tap), bridge)) continue;
      // Of managed networks the rules come first.
      if ((await host.store.record(nic.bridge)) !== undefined) continue;
      await replugTap({ ...nic, managed: false }, { ...host, bridge }, waiting);
    }
  }
}
