import { KeyedQueue } from '#host';
import { NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import { GoneLinks } from '../links/nic-link.ts';
import type { ReadyNic } from '../links/tap.ts';
import { asNetError, NetError } from '../model/error.ts';
import { type GroupNic, portsInGroup } from '../model/group.ts';
import type { GroupRequest } from '../model/nic.ts';
import { Turns } from '../model/turns.ts';
import type { NetUndo, UndoWriter } from '../model/undo.ts';
import { applyScript, type Nft } from '../rules/run-nft.ts';
import { tableState } from '../rules/table-state.ts';
import { buildInGroup, plugInGroup } from './build.ts';
import type { GroupHost } from './group-host.ts';
import { formatGroupRules, groupTables } from './group-rules.ts';
import { isNamespace, setGroupSysctls, watchNamespace, whileThere } from './namespace.ts';
import { pairPrefix, pairPrefix6 } from './plan-pair.ts';
import { serveGroup } from './responders.ts';
import { restoreLink, restoreTapName } from './restore-link.ts';
import { dropGroupNic } from './teardown.ts';

interface Known {
  readonly nic: GroupNic;
  /** Absent before the NIC is plugged in, and where it could not be opened. */
  readonly server?: AsyncDisposable | undefined;
  readonly watch: Disposable;
  /** Has its rules. */
  readonly plugged: boolean;
}

type Settings = Pick<GroupHost, 'nft' | 'maxConnections'>;
type OpenHost = () => Promise<Omit<GroupHost, keyof Settings>>;

/** The NICs in the namespaces of allocations that this process has built or adopted. */
export class Groups implements AsyncDisposable {
  readonly #host: () => Promise<GroupHost>;
  readonly #known = new Map<string, Known>();
  readonly #gone = new GoneLinks();
  /** What the tables of a tap held at the first look. */
  readonly #states = new Map<string, string>();
  readonly #turns = new Turns();
  /** Two VMs of a group may be started at the same time. */
  readonly #queue = new KeyedQueue();

  constructor(open: OpenHost, settings: Settings) {
    this.#host = async () => ({ ...(await open()), ...settings });
  }

  /** After an error the steps written to `undo` are to be torn down. */
  build(request: GroupRequest, undo: UndoWriter, waiting: Waiting): Promise<ReadyNic> {
    return this.#queue.run(request.netns, async () => {
      this.#refuseTaken(request);
      const host = await this.#host();
      const built = await buildInGroup(request, { host, undo }, waiting);
      const { nic, fds } = built;
      await this.#keep(nic, { plugged: false });
      const { vm: _vm, index: _index, ...record } = nic;
      const { tap, mac, mtu, guest, gateway, six, nameservers, searches } = nic;
      const ip6 = six && { ip: six.guest, prefix: pairPrefix6, gateway: six.gateway };
      return {
        mac,
        mtu,
        backend: { kind: 'tap', fds, name: tap },
        address: {
          ip: guest,
          prefix: pairPrefix,
          gateway,
          nameservers,
          searches,
          ...(ip6 && { six: ip6 }),
        },
        record: { kind: 'group-nic', ...record },
        plug: (limited) =>
          this.#queue.run(request.netns, async () => {
            await plugInGroup(built, host, limited);
            await this.#keep(nic, { plugged: true });
          }),
      };
    });
  }

  /** Takes over a NIC of a running VM, and puts back its rules where they are missing. */
  adopt(nic: GroupNic, waiting: Waiting): Promise<void> {
    const what = `VM ${nic.vm}: adopting its NIC in the network of its group failed`;
    const work = () =>
      asNetError(what, async () => {
        await this.#restore(nic, waiting);
        await this.#keep(nic, { plugged: true });
      });
    return this.#queue.run(nic.netns, work);
  }

  /** Puts back what other programs removed. Throws NetError that names the first that could not be put back. */
  async restore(waiting: Waiting): Promise<void> {
    const known = [...this.#known.values()].map(({ nic }) => {
      const { netns, tap, vm } = nic;
      const what = `VM ${vm}: the network of its group could not be restored`;
      const restore = async (limited: Waiting): Promise<void> => {
        if (this.#known.get(tap)?.plugged)
          await asNetError(what, () => this.#restore(nic, limited));
      };
      return { netns, work: (own: Waiting) => this.#queue.run(netns, () => restore(own)) };
    });
    await this.#turns.run(known, waiting);
  }

  drop(step: Extract<NetUndo, { kind: 'net-group' }>, waiting: Waiting): Promise<void> {
    return this.#queue.run(step.netns, async () => {
      await this.#forget(step.tap);
      this.#gone.forget(step.tap);
      this.#states.delete(step.tap);
      await dropGroupNic(step, await this.#host(), waiting);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const tap of [...this.#known.keys()]) await this.#forget(tap);
  }

  #refuseTaken({ vm, netns, ports }: GroupRequest): void {
    for (const { nic } of this.#known.values()) {
      if (nic.netns !== netns || nic.vm === vm) continue;
      const theirs = portsInGroup(nic).map(({ port }) => port);
      const taken = ports.find(({ groupPort, guestPort }) =>
        theirs.includes(groupPort ?? guestPort),
      );
      if (taken === undefined) continue;
      throw new NetError(
        'job',
        `VM ${vm}: port ${taken.label} (${taken.groupPort ?? taken.guestPort}) of the group leads to VM ${nic.vm} already: list the ports ` +
          'of each VM of the group in its network_interface { group { ports = […] } }',
      );
    }
  }

  async #restore(nic: GroupNic, waiting: Waiting): Promise<void> {
    const { netns, vm } = nic;
    const { nft, maxConnections, log, onEvent } = await this.#host();
    const there = { nft, netns };
    await whileThere(netns, async () => {
      const isThere = await restoreTapName(nic, { log, onEvent, gone: this.#gone }, waiting);
      if (!isThere) return;
      await setGroupSysctls(nic);
      if (await this.#areDamaged(nic, there, waiting)) {
        await applyScript(formatGroupRules(nic, maxConnections), there, waiting);
        log.warn('firewall rules in the network of the group were gone and were put back', { vm });
        onEvent(vm, 'Firewall rules in the network of the group were gone and were put back');
      }
      if (await restoreLink(nic, waiting)) {
        const text = `Tap ${nic.tap} in the network of the group was down or without its address`;
        log.warn('tap in the network of the group was taken up again', { vm, tap: nic.tap });
        onEvent(vm, `${text} and was put back`);
      }
    });
  }

  /** Whether rules are missing, or other ones than at the first look. */
  async #areDamaged(nic: GroupNic, there: Nft, waiting: Waiting): Promise<boolean> {
    await using netfilter = await NetlinkSocket.open({ netns: nic.netns, family: 'netfilter' });
    const state = await tableState(groupTables(nic), { ...there, netfilter }, waiting);
    const first = this.#states.get(nic.tap);
    if (state === undefined || (first !== undefined && first !== state)) return true;
    this.#states.set(nic.tap, state);
    return false;
  }

  async #keep(nic: GroupNic, { plugged }: Pick<Known, 'plugged'>): Promise<void> {
    await this.#forget(nic.tap);
    if (!isNamespace(nic.netns)) return;
    const server = plugged ? await this.#serve(nic) : undefined;
    // The server's socket would keep a namespace alive that was removed.
    const watch = watchNamespace(nic.netns, () => void this.#forget(nic.tap));
    this.#known.set(nic.tap, { nic, server, watch, plugged });
  }

  /** A failure is only logged, since guests have their addresses from the seed, too. */
  async #serve(nic: GroupNic): Promise<AsyncDisposable | undefined> {
    const host = await this.#host();
    try {
      return await serveGroup(nic, host);
    } catch (error) {
      host.log.warn('no DHCP responder in the network of the group', { vm: nic.vm, error });
      return undefined;
    }
  }

  async #forget(tap: string): Promise<void> {
    const known = this.#known.get(tap);
    this.#known.delete(tap);
    known?.watch[Symbol.dispose]();
    await known?.server?.[Symbol.asyncDispose]();
  }
}
