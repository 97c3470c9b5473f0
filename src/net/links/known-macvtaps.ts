import type { Logger } from '#host';
import type { NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import type { OnEvent } from '../model/net.ts';
import { decodeMacvtapNicRecord, type KnownNic } from '../model/nic.ts';
import { restoreMacvtap } from './macvtap.ts';

interface MacvtapHost {
  readonly netlink: NetlinkSocket;
  readonly log: Logger;
  readonly onEvent: OnEvent;
}

/** The macvtaps that this process has built or adopted: no store has them. */
export class KnownMacvtaps {
  readonly #host: () => Promise<MacvtapHost>;
  /** Link → VM. */
  readonly #known = new Map<string, string>();

  constructor(host: () => Promise<MacvtapHost>) {
    this.#host = host;
  }

  /** From now on `restore` looks after it, where the record is one of a macvtap. */
  keep({ vm, record }: Pick<KnownNic, 'vm' | 'record'>): void {
    const macvtap = decodeMacvtapNicRecord(record);
    if (macvtap !== undefined) this.#known.set(macvtap.link, vm);
  }

  forget(link: string): void {
    this.#known.delete(link);
  }

  /** Takes up again what something else on the host set down. */
  async restore(waiting: Waiting): Promise<void> {
    if (this.#known.size === 0) return;
    const host = await this.#host();
    for (const [link, vm] of [...this.#known]) await restoreMacvtap({ vm, link }, host, waiting);
  }
}
