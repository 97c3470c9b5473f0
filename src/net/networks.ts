import type { Logger, Waiting } from '#host';
import { findLink, listLinks, NetlinkSocket } from '#netlink';
import { checkNetworks, type ManagedNetwork } from '#spec';
import type { AdoptRecord, AttachedNic } from './attached.ts';
import { describeNetworks, type NetworkDescription } from './description.ts';
import { inWords, NetError } from './error.ts';
import { attachToExisting } from './existing.ts';
import { Firewall } from './firewall.ts';
import {
  adoptInManaged,
  attachToManaged,
  dropClaim,
  dropUnused,
  type ManagedHost,
  restoreRules,
} from './managed.ts';
import { tableName } from './names.ts';
import { Rules } from './nft.ts';
import { Notices } from './notices.ts';
import type { NicRequest } from './plan.ts';
import { Responders } from './responders.ts';
import { NetworkStore } from './store.ts';
import { removeTap, replugTap } from './tap.ts';
import type { NetUndo, UndoWriter } from './undo.ts';

export interface NetworksOptions {
  /** Where networks and claims are kept; every process that names the same directory works on the same networks. */
  readonly stateDir: string;
  readonly managed: readonly ManagedNetwork[];
  /** Bridges of others' that a VM may be plugged into. */
  readonly bridges: readonly string[];
  /** How many tracked connections a VM may have in each direction. */
  readonly maxConnections: number;
  /** Path of the nft program. */
  readonly nft: string;
  readonly log: Logger;
}

const describeMs = 10_000;

/** The host side of the VMs' NICs. Does nothing to the host before the first attach or adopt. */
export class Networks implements AsyncDisposable {
  readonly #managed: ReadonlyMap<string, ManagedNetwork>;
  readonly #bridges: readonly string[];
  readonly #host: Omit<ManagedHost, 'netlink'>;
  readonly #firewall: Firewall;
  #netlink: Promise<NetlinkSocket> | undefined;

  private constructor(options: NetworksOptions) {
    const { stateDir, managed, bridges, nft, maxConnections, log } = options;
    const store = new NetworkStore(stateDir);
    const rules = new Rules(store, { nft, table: tableName(stateDir), maxConnections });
    this.#bridges = bridges;
    this.#managed = new Map(managed.map((network) => [network.bridge, network]));
    const notices = new Notices(log);
    this.#host = { store, rules, responders: new Responders(store, log), notices, log };
    this.#firewall = new Firewall(rules, notices);
  }

  /** Throws NetError `bridge` that lists every problem of the configured networks. */
  static open(options: NetworksOptions): Networks {
    const problems = checkNetworks(options.managed);
    if (problems.length > 0) {
      const list = problems.map(({ index, key, text }) => `network ${index}: ${key}: ${text}`);
      throw new NetError('bridge', list.join('; '));
    }
    return new Networks(options);
  }

  /** Makes a NIC's host side. When it fails, what was done until then is what the undo steps say. */
  async attach(request: NicRequest, undo: UndoWriter, waiting: Waiting): Promise<AttachedNic> {
    const { vm, bridge } = request;
    const configured = this.#managed.get(bridge);
    const what = `VM ${vm}: attaching to bridge ${bridge} failed`;
    return inWords('bridge', what, async () => {
      const host = await this.#withNetlink();
      if (configured === undefined) {
        const nic = await attachToExisting(
          request,
          { ...host, bridges: this.#bridges, undo },
          waiting,
        );
        return { ...nic, notes: await this.#firewall.notesOfBridged(bridge, waiting) };
      }
      const nic = await attachToManaged(request, { host, configured, undo }, waiting);
      return { ...nic, notes: await this.#firewall.notes(bridge, waiting) };
    });
  }

  /**
   * Takes over a NIC of a running VM after a restart of the plugin: what this process has to keep going is started,
   * and what somebody took away from the host meanwhile is put back.
   */
  async adopt(nic: AdoptRecord, waiting: Waiting): Promise<void> {
    const what = `VM ${nic.vm}: taking up its NIC on bridge ${nic.bridge} again failed`;
    return inWords('bridge', what, async () => {
      const host = await this.#withNetlink();
      // It may have been taken out of the configuration while VMs are in it.
      const wanted = this.#managed.get(nic.bridge) ?? (await host.store.record(nic.bridge));
      if (wanted !== undefined) return adoptInManaged(nic, { host, wanted }, waiting);
      const bridge = await findLink(host.netlink, nic.bridge, waiting);
      if (bridge === undefined) return;
      await replugTap({ ...nic, managed: false }, { ...host, bridge }, waiting);
    });
  }

  /** Idempotent, and needs nothing but what is on disk. */
  async undo(step: NetUndo, waiting: Waiting): Promise<void> {
    switch (step.kind) {
      case 'net-tap':
        return removeTap((await this.#withNetlink()).netlink, step, waiting);
      case 'net-claim':
        await dropClaim(step, await this.#withNetlink(), waiting);
        // The step of its network may have ended already, when this one failed the first time.
        return dropUnused(step.bridge, await this.#withNetlink(), waiting);
      case 'net-bridge':
        return dropUnused(step.bridge, await this.#withNetlink(), waiting);
      default:
        return step satisfies never;
    }
  }

  /** Names of the VMs that have an address. */
  async claimants(): Promise<readonly string[]> {
    const networks = await this.#host.store.networks();
    return networks.flatMap(({ claims }) => claims.map(({ vm }) => vm));
  }

  /** Gives up every address of a VM. */
  async release(vm: string, waiting: Waiting): Promise<void> {
    for (const { record, claims } of await this.#host.store.networks()) {
      for (const { ip, index } of claims.filter((it) => it.vm === vm)) {
        await this.undo({ kind: 'net-claim', bridge: record.bridge, ip, vm, index }, waiting);
      }
    }
  }

  /**
   * The managed networks, and the bridges of others' that are allowed and there. Asked again and again, so it is when flushed rules are noticed and put
   * back as well.
   */
  async describe(): Promise<readonly NetworkDescription[]> {
    const waiting = { signal: AbortSignal.timeout(describeMs) };
    const host = await this.#withNetlink();
    await restoreRules(host, waiting).catch((error: unknown) =>
      host.log.warn('firewall rules of the VMs could not be checked', { why: String(error) }),
    );
    const links = await listLinks(host.netlink, waiting);
    const bridges = links
      .filter(({ kind, name }) => kind === 'bridge' && this.#bridges.includes(name))
      .map(({ name }) => name);
    return describeNetworks([...this.#managed.keys()], bridges);
  }

  /** Ends what runs in this process; leaves the host as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#host.responders[Symbol.asyncDispose]();
    const netlink = await this.#netlink?.catch(() => undefined);
    await netlink?.[Symbol.asyncDispose]();
  }

  async #withNetlink(): Promise<ManagedHost> {
    for (;;) {
      this.#netlink ??= NetlinkSocket.open();
      const opening = this.#netlink;
      const netlink = await opening.catch((error: unknown) => this.#forget(opening, error));
      if (!netlink.closed) return { ...this.#host, netlink };
      // A socket that failed is closed for good; the next one need not fail.
      if (this.#netlink === opening) this.#netlink = undefined;
    }
  }

  #forget(opening: Promise<NetlinkSocket>, error: unknown): never {
    if (this.#netlink === opening) this.#netlink = undefined;
    throw error;
  }
}
