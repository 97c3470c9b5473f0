import type { Logger, Waiting } from '#host';
import { findLink, type Link, listLinks, listNeighbours, NetlinkSocket } from '#netlink';
import { applyBridge, inspectBridge, type ReadyBridge, removeBridge } from './bridge.ts';
import type { Claim } from './claim.ts';
import { NetError } from './error.ts';
import { tableName } from './names.ts';
import { applyRuleset } from './nft.ts';
import {
  checkNetwork,
  checkPorts,
  type ManagedNetwork,
  type NicRequest,
  overlappingNetwork,
  planAddress,
  planNic,
  wantsLoopback,
} from './plan.ts';
import { hostNameservers } from './resolver.ts';
import { Responders } from './responders.ts';
import { formatRuleset } from './ruleset.ts';
import { NetworkStore } from './store.ts';
import { readSysctl } from './sysctl.ts';
import { plugTap, removeTap, replugTap } from './tap.ts';
import type { NetUndo } from './undo.ts';

export interface NetworksOptions {
  /** Where networks and claims are kept; every process that names the same directory works on the same networks. */
  readonly stateDir: string;
  readonly managed: readonly ManagedNetwork[];
  /** Path of the nft program. */
  readonly nft: string;
  readonly log: Logger;
}

/** A NIC that is plugged in. */
export interface AttachedNic {
  /** For QEMU to inherit; the caller closes its own copy after the spawn. */
  readonly tapFd: number;
  readonly tap: string;
  readonly mac: string;
  readonly bridge: string;
  readonly mtu: number;
  /** What the guest is to use; undefined on a bridge that isn't managed. */
  readonly address?: {
    readonly ip: string;
    readonly prefix: number;
    readonly gateway: string;
    readonly nameservers: readonly string[];
  };
}

/** What must be known of a NIC to take it over from an earlier process. */
export interface AdoptRecord {
  readonly vm: string;
  readonly index: number;
  readonly bridge: string;
  readonly tap: string;
}

/** Who writes an undo step down before its action is done. */
export interface UndoWriter {
  perform<T>(step: NetUndo, action: () => T | Promise<T>): Promise<T>;
}

// Adopting a hundred VMs one after the other must not rewrite the same rules a hundred times.
const rulesFreshMs = 5000;

/** The host side of the VMs' NICs. Does nothing to the host before the first attach or adopt. */
export class Networks implements AsyncDisposable {
  readonly #store: NetworkStore;
  readonly #managed: ReadonlyMap<string, ManagedNetwork>;
  readonly #nft: string;
  readonly #table: string;
  readonly #log: Logger;
  readonly #responders: Responders;
  #netlink: Promise<NetlinkSocket> | undefined;
  #rulesAtMs = Number.NEGATIVE_INFINITY;

  private constructor({ stateDir, managed, nft, log }: NetworksOptions) {
    this.#store = new NetworkStore(stateDir);
    this.#managed = new Map(managed.map((network) => [network.bridge, network]));
    this.#nft = nft;
    this.#table = tableName(stateDir);
    this.#log = log;
    this.#responders = new Responders(this.#store, log);
  }

  /** Throws NetError `bridge` that lists every problem of the configured networks. */
  static open(options: NetworksOptions): Networks {
    const problems = options.managed.flatMap(checkNetwork);
    if (problems.length > 0) throw new NetError('bridge', problems.join('; '));
    return new Networks(options);
  }

  /** Makes a NIC's host side. What was done when it fails is what the undo steps say. */
  async attach(request: NicRequest, undo: UndoWriter, waiting: Waiting): Promise<AttachedNic> {
    const network = this.#managed.get(request.bridge);
    return network === undefined
      ? this.#attachToExisting(request, undo, waiting)
      : this.#attachToManaged(request, { network, undo }, waiting);
  }

  async #attachToManaged(
    request: NicRequest,
    { network, undo }: { readonly network: ManagedNetwork; readonly undo: UndoWriter },
    waiting: Waiting,
  ): Promise<AttachedNic> {
    const { vm, index, bridge, ports, hostname } = request;
    const netlink = await this.#socket();
    await using _ = await this.#store.lock(waiting);
    checkPorts(request, await this.#store.networks());
    const ready = await undo.perform({ kind: 'net-bridge', bridge }, () =>
      this.#useBridge(netlink, network, waiting),
    );
    this.#checkLoopback(request, ready);
    const ip = planAddress(request, network, {
      claims: await this.#store.claims(bridge),
      avoid: ready.owned ? new Set<string>() : await neighbours(netlink, ready.link, waiting),
    });
    const links = await listLinks(netlink, waiting);
    const plan = planNic(request, true, new Set(links.map(({ name }) => name)));
    const claim: Claim = { ip, vm, index, mac: plan.mac, tap: plan.tap, hostname, ports };
    await undo.perform({ kind: 'net-claim', bridge, ip, vm, index }, async () => {
      await this.#store.keepClaim(bridge, claim);
      await this.#applyRules(waiting);
    });
    const nameservers = network.nameservers ?? (await hostNameservers());
    await this.#responders.ensure(network, ready, nameservers);
    const tapFd = await undo.perform({ kind: 'net-tap', tap: plan.tap, vm, index }, () =>
      plugTap(netlink, plan, { vm, index, bridge: ready.link }, waiting),
    );
    this.#log.info('tap joined bridge', { vm, tap: plan.tap, bridge, ip });
    const address = { ip, prefix: network.prefix, gateway: network.address, nameservers };
    return { tapFd, tap: plan.tap, mac: plan.mac, bridge, mtu: ready.link.mtu, address };
  }

  async #attachToExisting(
    request: NicRequest,
    undo: UndoWriter,
    waiting: Waiting,
  ): Promise<AttachedNic> {
    const { vm, index, bridge } = request;
    const netlink = await this.#socket();
    const links = await listLinks(netlink, waiting);
    const link = links.find(({ name }) => name === bridge);
    refuseUnusable(request, link);
    const plan = planNic(request, false, new Set(links.map(({ name }) => name)));
    const tapFd = await undo.perform({ kind: 'net-tap', tap: plan.tap, vm, index }, () =>
      plugTap(netlink, plan, { vm, index, bridge: link }, waiting),
    );
    this.#log.info('tap joined bridge', { vm, tap: plan.tap, bridge });
    return { tapFd, tap: plan.tap, mac: plan.mac, bridge, mtu: link.mtu };
  }

  /**
   * Takes over a NIC of a running VM after a restart of the plugin: what this process has to keep going is started,
   * and what somebody took away from the host meanwhile is put back.
   */
  async adopt(nic: AdoptRecord, waiting: Waiting): Promise<void> {
    const netlink = await this.#socket();
    await using _ = await this.#store.lock(waiting);
    const network = this.#managed.get(nic.bridge) ?? (await this.#recordedNetwork(nic.bridge));
    if (network === undefined) {
      const bridge = await findLink(netlink, nic.bridge, waiting);
      if (bridge !== undefined) await this.#replug(nic, bridge, waiting);
      return;
    }
    const ready = await this.#useBridge(netlink, network, waiting);
    if (Date.now() - this.#rulesAtMs > rulesFreshMs) await this.#applyRules(waiting);
    const nameservers = network.nameservers ?? (await hostNameservers());
    await this.#responders.ensure(network, ready, nameservers);
    await this.#replug(nic, ready.link, waiting);
  }

  /** Idempotent, and needs nothing but what is on disk. */
  async undo(step: NetUndo, waiting: Waiting): Promise<void> {
    switch (step.kind) {
      case 'net-tap':
        return removeTap(await this.#socket(), step, waiting);
      case 'net-claim':
        return this.#dropClaim(step, waiting);
      case 'net-bridge': {
        await using _ = await this.#store.lock(waiting);
        return await this.#dropUnused(step.bridge, waiting);
      }
      default:
        return step satisfies never;
    }
  }

  /** The managed networks, active when their bridge is there, and every other bridge of the host. */
  async describe(): Promise<
    readonly { name: string; bridge: string; state: 'active' | 'inactive' }[]
  > {
    const waiting = { signal: AbortSignal.timeout(10_000) };
    const links = await listLinks(await this.#socket(), waiting);
    const bridges = links.filter(({ kind }) => kind === 'bridge').map(({ name }) => name);
    return [...new Set([...this.#managed.keys(), ...bridges])].map((bridge) => ({
      name: bridge,
      bridge,
      state: bridges.includes(bridge) ? 'active' : 'inactive',
    }));
  }

  /** Ends what runs in this process; leaves the host as it is. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#responders[Symbol.asyncDispose]();
    const netlink = await this.#netlink?.catch(() => undefined);
    await netlink?.[Symbol.asyncDispose]();
  }

  /** A network that was taken out of the configuration while VMs are in it. */
  async #recordedNetwork(bridge: string): Promise<ManagedNetwork | undefined> {
    const record = await this.#store.record(bridge);
    return record && { bridge, address: record.address, prefix: record.prefix };
  }

  async #useBridge(
    netlink: NetlinkSocket,
    network: ManagedNetwork,
    waiting: Waiting,
  ): Promise<ReadyBridge> {
    const { bridge, address, prefix } = network;
    const records = (await this.#store.networks()).map(({ record }) => record);
    const other = overlappingNetwork(network, records);
    if (other !== undefined) {
      const its = `${other.bridge} (${other.address}/${other.prefix})`;
      throw new NetError('bridge', `network ${bridge} (${address}/${prefix}) overlaps ${its}`);
    }
    const plan = await inspectBridge(netlink, network, waiting);
    const owned = plan !== 'foreign';
    if (!owned) this.#log.info('using a bridge that was there', { bridge, address });
    await this.#store.keepRecord({ bridge, address, prefix, owned });
    const ready = await applyBridge(netlink, network, plan, { log: this.#log, ...waiting });
    if (plan === 'create') await this.#plugAll(bridge, ready.link, waiting);
    return ready;
  }

  /** A bridge that had to be made again gets its running VMs back. */
  async #plugAll(bridge: string, link: Link, waiting: Waiting): Promise<void> {
    for (const claim of await this.#store.claims(bridge)) {
      await this.#replug({ bridge, ...claim }, link, waiting);
    }
  }

  async #replug(nic: AdoptRecord, bridge: Link, waiting: Waiting): Promise<void> {
    const { vm, tap } = nic;
    const netlink = await this.#socket();
    const link = await findLink(netlink, tap, waiting);
    if (link === undefined) return;
    if (await replugTap(netlink, link, bridge, waiting)) {
      this.#log.warn('tap had left its bridge and was put back', { vm, tap, bridge: bridge.name });
    }
  }

  #checkLoopback(request: NicRequest, { owned }: ReadyBridge): void {
    const { vm, bridge, ports } = request;
    if (owned || !wantsLoopback(ports)) return;
    const name = `net/ipv4/conf/${bridge}/route_localnet`;
    if (readSysctl(name) === '1' || readSysctl('net/ipv4/conf/all/route_localnet') === '1') return;
    throw new NetError(
      'rules',
      `VM ${vm}: ports on loopback addresses need net.ipv4.conf.${bridge}.route_localnet=1, ` +
        `which is left to whoever made bridge ${bridge}`,
    );
  }

  async #dropClaim(
    { bridge, ip, vm, index }: Extract<NetUndo, { kind: 'net-claim' }>,
    waiting: Waiting,
  ): Promise<void> {
    await using _ = await this.#store.lock(waiting);
    const claim = await this.#store.claim(bridge, ip);
    if (claim?.vm === vm && claim.index === index) await this.#store.dropClaim(bridge, ip);
    this.#responders.forget(bridge);
    // Also when the claim is gone already: an interrupted undo may have got no further than that.
    await this.#applyRules(waiting);
  }

  async #dropUnused(bridge: string, waiting: Waiting): Promise<void> {
    const record = await this.#store.record(bridge);
    if (record === undefined || (await this.#store.claims(bridge)).length > 0) return;
    await this.#responders.stop(bridge);
    if (record.owned) {
      await removeBridge(await this.#socket(), bridge, { log: this.#log, ...waiting });
    }
    await this.#store.dropNetwork(bridge);
    await this.#applyRules(waiting);
  }

  /** Makes the host's rules those that the claims on disk ask for. */
  async #applyRules(waiting: Waiting): Promise<void> {
    const networks = await this.#store.networks();
    await applyRuleset(this.#nft, formatRuleset(this.#table, networks), waiting);
    this.#rulesAtMs = Date.now();
  }

  #socket(): Promise<NetlinkSocket> {
    this.#netlink ??= NetlinkSocket.open();
    return this.#netlink;
  }
}

function refuseUnusable(request: NicRequest, link: Link | undefined): asserts link is Link {
  const { vm, bridge, ports } = request;
  if (link === undefined) {
    throw new NetError('bridge', `VM ${vm}: bridge ${bridge} does not exist and is not managed`);
  }
  if (link.kind !== 'bridge') {
    throw new NetError('bridge', `VM ${vm}: link ${bridge} is not a Linux bridge`);
  }
  if (ports.length === 0) return;
  const labels = ports.map(({ label }) => label).join(', ');
  throw new NetError(
    'rules',
    `VM ${vm}: ports (${labels}) can't be mapped on bridge ${bridge}: the driver gives no addresses there. ` +
      `Use a managed network, or reach the guest at the address it gets on that bridge`,
  );
}

async function neighbours(
  netlink: NetlinkSocket,
  bridge: Link,
  waiting: Waiting,
): Promise<ReadonlySet<string>> {
  const known = await listNeighbours(netlink, waiting);
  const here = known.filter(({ linkIndex }) => linkIndex === bridge.index);
  return new Set(here.map(({ address }) => address));
}
