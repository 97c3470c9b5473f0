import { together, within } from '#host';
import { LastingSocket } from '#netlink';
import { checkNetworks, type ManagedNetwork, type NicSpec, type Waiting } from '#spec';
import { Limits } from './bandwidth/limits.ts';
import { admitLinkLocal } from './build/admit-link-local.ts';
import { type Allowed, allowedBy, nicProblem } from './build/allowed.ts';
import { claimedNic } from './build/claimed-nic.ts';
import { adoptOnForeignBridge, buildOnForeignBridge } from './build/foreign-bridge.ts';
import { buildMacvtap } from './build/macvtap.ts';
import { adoptInManaged, buildInManaged } from './build/managed.ts';
import type { ManagedHost } from './build/managed-host.ts';
import { Redirects } from './build/redirects.ts';
import { lookAfterNetworks } from './build/repair.ts';
import { notesAtStart, reportOtherRules } from './build/report-firewall.ts';
import { restoreAllFiles, restoreFiles } from './build/restore-files.ts';
import { dropClaim, dropUnused } from './build/teardown.ts';
import { buildUserMode } from './build/user-mode.ts';
import type { Admit } from './dhcp/guests6.ts';
import { dhcpResponders } from './dhcp/responders.ts';
import { responders6 } from './dhcp/responders6.ts';
import { nameServers } from './dns/resolvers.ts';
import { Firewall } from './firewall/firewall.ts';
import { Groups } from './group/groups.ts';
import { existingBridges } from './links/existing-bridges.ts';
import { KnownLinks } from './links/known-links.ts';
import { removeMacvtap, restoreMacvtap } from './links/macvtap.ts';
import { PerBridge } from './links/per-bridge.ts';
import { type BuiltNic, removeTap } from './links/tap.ts';
import { asNetError, NetError } from './model/error.ts';
import { decodeGroupNic } from './model/group.ts';
import { inTurn } from './model/in-turn.ts';
import { LastNotes } from './model/last-notes.ts';
import { tableName } from './model/names.ts';
import type { Net, NetworksOptions } from './model/net.ts';
import { networkAttributes } from './model/network-attributes.ts';
import {
  type AttachedNic,
  type BridgeRequest,
  type ClaimedNic,
  decodeMacvtapNicRecord,
  decodeNicRecord,
  failureOf,
  type KnownNic,
  type NicRequest,
} from './model/nic.ts';
import type { NetUndo, UndoWriter } from './model/undo.ts';
import { WarnOnce } from './model/warn-once.ts';
import { Rules } from './rules/nft.ts';
import { NetworkStore } from './store/store.ts';

const fingerprintMs = 10_000;

/** Linux bridges, taps and nftables. Makes nothing on the host before the first build. */
export class Networks implements Net {
  readonly #managed: ReadonlyMap<string, ManagedNetwork>;
  readonly #allowed: Allowed;
  readonly #host: Omit<ManagedHost, 'netlink'>;
  readonly #groups: Groups;
  readonly #limits: Limits;
  readonly #links = new KnownLinks(() => this.#withNetlink());
  readonly #netlink = new LastingSocket();

  private constructor(options: NetworksOptions) {
    const { stateDir, managed, nft, maxConnections, log, onEvent = () => {} } = options;
    const store = new NetworkStore(stateDir);
    const table = tableName(stateDir);
    const rules = new Rules(store, { nft, table, maxConnections });
    this.#managed = new Map(managed.map((network) => [network.bridge, network]));
    this.#allowed = allowedBy(options);
    const warnOnce = new WarnOnce(log);
    const admit: Admit = async (newcomer, waiting) =>
      admitLinkLocal(newcomer, await this.#withNetlink(), waiting);
    const servers = [
      new PerBridge(dhcpResponders(store, log), log),
      new PerBridge(responders6(store, { admit, log }), log),
      new PerBridge(nameServers(store, { table, log }), log),
    ];
    const firewall = new Firewall(rules, warnOnce);
    const redirects = new Redirects(() => this.#netlink.get(), log);
    const ours = { store, rules, firewall, servers, redirects, unplugged: new Set<string>() };
    this.#host = { ...ours, takenPorts: new LastNotes(), warnOnce, log, onEvent };
    this.#groups = new Groups(() => this.#withNetlink(), { nft, maxConnections });
    this.#limits = new Limits(() => this.#withNetlink(), { nft });
  }

  /** Throws NetError that lists every problem of the configured networks. */
  static open(options: NetworksOptions): Networks {
    const problems = checkNetworks(options.managed);
    if (problems.length > 0) {
      const list = problems.map(({ index, key, text }) => `network ${index}: ${key}: ${text}`);
      throw new NetError('host', list.join('; '));
    }
    return new Networks(options);
  }

  async fingerprint(waiting: Waiting): Promise<Readonly<Record<string, string>>> {
    const { log } = this.#host;
    using limited = within(fingerprintMs, waiting);
    await this.init(limited).catch((error: unknown) => log.warn('network not ready', { error }));
    const bridges = await this.#withNetlink()
      .then(({ netlink }) => existingBridges(netlink, this.#allowed.bridges, limited))
      .catch((error: unknown) => {
        log.warn('bridges could not be listed', { error });
        return [];
      });
    return networkAttributes([...this.#managed.keys()], bridges);
  }

  problemOf(nic: NicSpec): string | undefined {
    return nicProblem(nic, this.#allowed);
  }

  async init(waiting: Waiting): Promise<void> {
    return asNetError('the network of running VMs could not be restored', async () => {
      await inTurn([
        () => this.#links.restoreNames(waiting),
        async () => restoreAllFiles(() => this.#links.nics(), await this.#withNetlink(), waiting),
        async () => lookAfterNetworks(await this.#withNetlink(), waiting),
        () => this.#links.restore(waiting),
        async () => reportOtherRules(await this.#withNetlink(), this.#links.vms(), waiting),
        // Last: tasks of groups may make it slow in their namespaces.
        () => together([this.#groups.restore(waiting), this.#limits.restore(waiting)]),
      ]);
    });
  }

  async vmStartedBuild(
    request: NicRequest,
    undo: UndoWriter,
    waiting: Waiting,
  ): Promise<AttachedNic> {
    const failure = failureOf(request);
    const built = await asNetError(failure, () => this.#build(request, undo, waiting));
    const { mac, mtu, backend } = built;
    const claim = async (limited: Waiting): Promise<ClaimedNic> => {
      const addressed = await asNetError(failure, () =>
        'claim' in built ? built.claim(limited) : built,
      );
      const parts = { limits: this.#limits, links: this.#links, undo };
      const notes = async (some: Waiting): Promise<readonly string[]> =>
        notesAtStart(request, await this.#withNetlink(), some);
      return claimedNic(request, addressed, { ...parts, notes });
    };
    return { mac, mtu, backend, claim };
  }

  async adopt(nic: KnownNic, waiting: Waiting): Promise<void> {
    await this.#adopt(nic, waiting);
    this.#links.keep(nic);
    await this.#limits.adopt(nic, waiting);
  }

  async #adopt({ vm, index, record }: KnownNic, waiting: Waiting): Promise<void> {
    const inGroup = decodeGroupNic({ vm, index, record });
    if (inGroup !== undefined) return this.#groups.adopt(inGroup, waiting);
    const macvtap = decodeMacvtapNicRecord(record);
    if (macvtap !== undefined) {
      return restoreMacvtap({ vm, ...macvtap }, await this.#withNetlink(), waiting);
    }
    const nic = decodeNicRecord(record);
    if (nic === undefined) throw new NetError('host', `VM ${vm}: no record of its NIC ${index}`);
    const { bridge } = nic;
    const what = `VM ${vm}: adopting its NIC on bridge ${bridge} failed`;
    return asNetError(what, async () => {
      const host = await this.#withNetlink();
      await restoreFiles({ vm, record: nic }, host, waiting);
      // It may have been taken out of the configuration while it has VMs.
      const wanted = this.#managed.get(bridge) ?? (await host.store.record(bridge));
      if (wanted !== undefined)
        return adoptInManaged({ vm, record: nic }, { host, wanted }, waiting);
      await adoptOnForeignBridge({ vm, record: nic }, host, waiting);
    });
  }

  async vmTerminatedTeardown(step: NetUndo, waiting: Waiting): Promise<void> {
    switch (step.kind) {
      case 'net-tap':
        this.#host.unplugged.delete(step.tap);
        this.#links.forget(step.tap);
        return removeTap((await this.#withNetlink()).netlink, step, waiting);
      case 'net-claim':
        return dropClaim(step, await this.#withNetlink(), waiting);
      case 'net-bridge':
        return dropUnused(step.bridge, await this.#withNetlink(), waiting);
      case 'net-macvtap':
        this.#links.forget(step.link);
        return removeMacvtap((await this.#withNetlink()).netlink, step, waiting);
      case 'net-group':
        return this.#groups.drop(step, waiting);
      case 'net-limit':
        return this.#limits.drop(step, waiting);
      default:
        return step satisfies never;
    }
  }

  async claimants(): Promise<readonly string[]> {
    const networks = await this.#host.store.networks();
    return networks.flatMap(({ claims }) => claims.map(({ vm }) => vm));
  }

  async release(vm: string, waiting: Waiting): Promise<void> {
    for (const { record, claims } of await this.#host.store.networks()) {
      for (const { ip, index } of claims.filter((claim) => claim.vm === vm)) {
        const step = { kind: 'net-claim', bridge: record.bridge, ip, vm, index } as const;
        await this.vmTerminatedTeardown(step, waiting);
      }
    }
  }

  /** Ends what runs in this process; leaves the host as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#groups[Symbol.asyncDispose]();
    await this.#host.redirects[Symbol.asyncDispose]();
    for (const servers of this.#host.servers) await servers[Symbol.asyncDispose]();
    await this.#host.rules[Symbol.asyncDispose]();
    await this.#netlink[Symbol.asyncDispose]();
  }

  async #build(request: NicRequest, undo: UndoWriter, waiting: Waiting): Promise<BuiltNic> {
    const host = await this.#withNetlink();
    switch (request.kind) {
      case 'bridge':
        return this.#buildOnBridge(request, { host, undo }, waiting);
      case 'user':
        return buildUserMode(request, host, waiting);
      case 'macvtap':
        return buildMacvtap(request, { ...host, ...this.#allowed, undo }, waiting);
      case 'group':
        return this.#groups.build(request, undo, waiting);
      default:
        return request satisfies never;
    }
  }

  async #buildOnBridge(
    request: BridgeRequest,
    { host, undo }: { readonly host: ManagedHost; readonly undo: UndoWriter },
    waiting: Waiting,
  ): Promise<BuiltNic> {
    const configured = this.#managed.get(request.bridge);
    if (configured !== undefined)
      return buildInManaged(request, { host, configured, undo }, waiting);
    return buildOnForeignBridge(request, { ...host, ...this.#allowed, undo }, waiting);
  }

  async #withNetlink(): Promise<ManagedHost> {
    return { ...this.#host, netlink: await this.#netlink.get() };
  }
}
