import { KeyedQueue, type Logger } from '#host';
import { findLink, listShapers, NetlinkError, NetlinkSocket, setShaper } from '#netlink';
import type { Waiting } from '#spec';
import { whileThere } from '../group/namespace.ts';
import { decodeLimitedNic, type LimitedNic } from '../model/bandwidth.ts';
import { asNetError, NetError, netError } from '../model/error.ts';
import type { OnEvent } from '../model/net.ts';
import type { KnownNic } from '../model/nic.ts';
import { Turns } from '../model/turns.ts';
import type { NetUndo, UndoWriter } from '../model/undo.ts';
import { applyScript, type Nft } from '../rules/run-nft.ts';
import { rulesIn } from '../rules/table-state.ts';
import { formatRemoval, keyOf, type LimitPlan, limitTable, planLimits } from './plan-limits.ts';

interface LimitsHost {
  readonly netlink: NetlinkSocket;
  readonly log: Logger;
  readonly onEvent: OnEvent;
}

/** The bounds on the links that this process has built or adopted. */
export class Limits {
  readonly #host: () => Promise<LimitsHost>;
  readonly #nft: string;
  readonly #known = new Map<string, LimitedNic>();
  readonly #turns = new Turns();
  /** One link is not bounded and freed at the same time. */
  readonly #queue = new KeyedQueue();

  constructor(host: () => Promise<LimitsHost>, { nft }: { readonly nft: string }) {
    this.#host = host;
    this.#nft = nft;
  }

  /** Bounds the link of a NIC as its record has it, before it is plugged in. */
  async build(
    { vm, record }: Pick<KnownNic, 'vm' | 'record'>,
    undo: UndoWriter,
    waiting: Waiting,
  ): Promise<void> {
    const nic = decodeLimitedNic(vm, record);
    if (nic === undefined) return;
    const { tap, netns } = nic;
    const step = { kind: 'net-limit', tap, ...(netns !== undefined && { netns }) } as const;
    await this.#queue.run(tap, () =>
      undo.perform(step, async () => {
        await this.#apply(nic, planLimits(nic), waiting);
        this.#known.set(tap, nic);
      }),
    );
  }

  /** Takes over the link of a running VM, and bounds it again where that is missing. */
  async adopt({ vm, record }: KnownNic, waiting: Waiting): Promise<void> {
    const nic = decodeLimitedNic(vm, record);
    if (nic === undefined) return;
    await this.#queue.run(nic.tap, async () => {
      this.#known.set(nic.tap, nic);
      await this.#restore(nic, waiting);
    });
  }

  /** Bounds again what other programs freed. Throws NetError that names the first that could not be. */
  async restore(waiting: Waiting): Promise<void> {
    const known = [...this.#known.values()].map((nic) => {
      const { netns, tap } = nic;
      const restore = async (limited: Waiting): Promise<void> => {
        if (this.#known.has(tap)) await this.#restore(nic, limited);
      };
      return { netns, work: (own: Waiting) => this.#queue.run(tap, () => restore(own)) };
    });
    await this.#turns.run(known, waiting);
  }

  /** The queue of a link goes with the link, its table does not. */
  drop({ tap, netns }: Extract<NetUndo, { kind: 'net-limit' }>, waiting: Waiting): Promise<void> {
    return this.#queue.run(tap, async () => {
      this.#known.delete(tap);
      await inside(netns, () => applyScript(formatRemoval(tap), this.#nftOf({ netns }), waiting));
    });
  }

  async #restore(nic: LimitedNic, waiting: Waiting): Promise<void> {
    const { vm, tap, netns } = nic;
    const { log, onEvent } = await this.#host();
    await asNetError(`VM ${vm}: the bandwidth of its link ${tap} could not be restored`, () =>
      inside(netns, async () => {
        const missing = await this.#missing(nic, waiting);
        if (missing === undefined) return;
        await this.#apply(nic, missing, waiting);
        log.warn('limits of bandwidth were gone and were put back', { vm, tap });
        onEvent(vm, 'Limits of bandwidth were gone and were put back');
      }),
    );
  }

  /** Undefined when nothing is, or the link is gone. */
  async #missing(nic: LimitedNic, waiting: Waiting): Promise<LimitPlan | undefined> {
    const { leaving, arriving } = planLimits(nic);
    return this.#withLink(nic, waiting, async (link, netlink) => {
      const isFree =
        leaving !== undefined && !(await listShapers(netlink, waiting)).has(link.index);
      const isOpen =
        arriving !== undefined &&
        (await rulesIn([limitTable(nic.tap)], this.#nftOf(nic), waiting)) === undefined;
      if (!isFree && !isOpen) return undefined;
      return { ...(isFree && { leaving }), ...(isOpen && { arriving }) };
    });
  }

  async #apply(nic: LimitedNic, { leaving, arriving }: LimitPlan, waiting: Waiting): Promise<void> {
    if (leaving !== undefined) {
      await this.#withLink(nic, waiting, async (link, netlink) => {
        await setShaper(netlink, link, leaving, waiting).catch((cause: unknown) => {
          throw unsupported(nic, cause);
        });
      });
    }
    if (arriving === undefined) return;
    await applyScript(arriving, this.#nftOf(nic), waiting).catch((cause: unknown) => {
      if (!(cause instanceof NetError)) throw cause;
      const what = `VM ${nic.vm}: ${keyOf(nic, 'arriving')} can't be limited here`;
      throw new NetError('host', `${what}: ${cause.message}`, { cause });
    });
  }

  /** Undefined when it is gone. */
  async #withLink<T>(
    { tap, netns }: LimitedNic,
    waiting: Waiting,
    action: (
      link: { readonly index: number; readonly name: string },
      netlink: NetlinkSocket,
    ) => Promise<T>,
  ): Promise<T | undefined> {
    await using there = netns === undefined ? undefined : await NetlinkSocket.open({ netns });
    const netlink = there ?? (await this.#host()).netlink;
    const link = await findLink(netlink, tap, waiting);
    return link && (await action(link, netlink));
  }

  #nftOf({ netns }: { readonly netns?: string | undefined }): Nft {
    return { nft: this.#nft, ...(netns !== undefined && { netns }) };
  }
}

/** A namespace that is gone has taken everything along. */
function inside(netns: string | undefined, action: () => Promise<void>): Promise<void> {
  return netns === undefined ? action() : whileThere(netns, action);
}

function unsupported(nic: LimitedNic, cause: unknown): unknown {
  if (!(cause instanceof NetlinkError)) return cause;
  const what = `VM ${nic.vm}: ${keyOf(nic, 'leaving')} can't be limited here`;
  if (cause.errno !== 'ENOENT') return netError(what, cause);
  const text = `${what}: this host's kernel has no token bucket (module sch_tbf)`;
  return new NetError('host', text, { cause });
}
