import type { Logger, Waiting } from '#host';
import { type Link, listLinks, listNeighbours, type NetlinkSocket } from '#netlink';
import type { AdoptRecord, AttachedNic } from './attached.ts';
import { applyBridge, inspectBridge, type ReadyBridge, removeBridge } from './bridge.ts';
import type { Claim } from './claim.ts';
import { NetError } from './error.ts';
import type { Rules } from './nft.ts';
import {
  checkPorts,
  findConflicts,
  type ManagedNetwork,
  type NicRequest,
  overlappingNetwork,
  planAddress,
  planNic,
  portTaken,
  wantsLoopback,
} from './plan.ts';
import { hostNameservers } from './resolver.ts';
import type { Responders } from './responders.ts';
import type { NetworkStore } from './store.ts';
import { readSysctl } from './sysctl.ts';
import { plugTap, replugTap } from './tap.ts';
import type { NetUndo, UndoWriter } from './undo.ts';

/** What managed networks are made with; everything here is used under the store's lock. */
export interface ManagedHost {
  readonly netlink: NetlinkSocket;
  readonly store: NetworkStore;
  readonly rules: Rules;
  readonly responders: Responders;
  readonly log: Logger;
}

// Adopting a hundred VMs one after the other must not rewrite the same rules a hundred times.
const rulesFreshMs = 5000;

/** Gives a NIC its place in a managed network, which is made when this is the first one in it. */
export async function attachToManaged(
  request: NicRequest,
  { host, network, undo }: { host: ManagedHost; network: ManagedNetwork; undo: UndoWriter },
  waiting: Waiting,
): Promise<AttachedNic> {
  const { vm, index, bridge, ports, hostname } = request;
  const { netlink, store, rules, responders, log } = host;
  await using _ = await store.lock(waiting);
  const links = await listLinks(netlink, waiting);
  const taken = new Set(links.map(({ name }) => name));
  checkPorts(request);
  await clearPorts(request, host, taken);
  const ready = await undo.perform({ kind: 'net-bridge', bridge }, () =>
    useBridge(host, network, waiting),
  );
  checkLoopback(request, ready);
  const ip = planAddress(request, network, {
    claims: await store.claims(bridge),
    avoid: ready.owned ? new Set<string>() : await neighbours(netlink, ready.link, waiting),
  });
  const plan = planNic(request, true, taken);
  const claim: Claim = { ip, vm, index, mac: plan.mac, tap: plan.tap, hostname, ports };
  await undo.perform({ kind: 'net-claim', bridge, ip, vm, index }, async () => {
    await store.keepClaim(bridge, claim);
    await rules.apply(waiting);
  });
  const nameservers = network.nameservers ?? (await hostNameservers());
  await responders.ensure(network, ready, nameservers);
  const tapFd = await undo.perform({ kind: 'net-tap', tap: plan.tap, vm, index }, () =>
    plugTap(netlink, plan, { vm, index, bridge: ready.link }, waiting),
  );
  log.info('tap joined bridge', { vm, tap: plan.tap, bridge, ip });
  const address = { ip, prefix: network.prefix, gateway: network.address, nameservers };
  return { tapFd, tap: plan.tap, mac: plan.mac, bridge, mtu: ready.link.mtu, address };
}

/** Has everything there that a NIC needs, after a restart of the plugin or of somebody else's firewall. */
export async function adoptInManaged(
  nic: AdoptRecord,
  { host, network }: { host: ManagedHost; network: ManagedNetwork },
  waiting: Waiting,
): Promise<void> {
  await using _ = await host.store.lock(waiting);
  const ready = await useBridge(host, network, waiting);
  await host.rules.refresh(rulesFreshMs, waiting);
  const nameservers = network.nameservers ?? (await hostNameservers());
  await host.responders.ensure(network, ready, nameservers);
  await replugTap(nic, { ...host, bridge: ready.link }, waiting);
}

/**
 * Gives up a NIC's address and with it its ports, its DHCP answer and its leave to use the bridge. Connections that the
 * kernel tracks already are translated until they have been idle for long enough: nft can't end them.
 */
export async function dropClaim(
  { bridge, ip, vm, index }: Extract<NetUndo, { kind: 'net-claim' }>,
  { store, responders, rules }: Omit<ManagedHost, 'netlink'>,
  waiting: Waiting,
): Promise<void> {
  await using _ = await store.lock(waiting);
  const claim = await store.claim(bridge, ip);
  if (claim?.vm === vm && claim.index === index) await store.dropClaim(bridge, ip);
  responders.forget(bridge);
  // Also when the claim is gone already: an interrupted undo may have got no further than that.
  await rules.apply(waiting);
}

/** Takes a network off the host when nobody is in it any more. */
export async function dropUnused(
  bridge: string,
  { netlink, store, responders, rules, log }: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  await using _ = await store.lock(waiting);
  const record = await store.record(bridge);
  if (record === undefined || (await store.claims(bridge)).length > 0) return;
  await responders.stop(bridge);
  if (record.owned) await removeBridge(netlink, bridge, { log, ...waiting });
  await store.dropNetwork(bridge);
  await rules.apply(waiting);
}

/**
 * Refuses ports that another VM has, but takes them from one that is gone: a tap lives exactly as long as its VM, and
 * under the lock there is no claim whose tap is yet to come. What its undo steps say stays fine to do.
 */
async function clearPorts(
  request: NicRequest,
  { store, log }: Pick<ManagedHost, 'store' | 'log'>,
  links: ReadonlySet<string>,
): Promise<void> {
  for (const conflict of findConflicts(request, await store.networks())) {
    const { bridge, claim } = conflict;
    if (links.has(claim.tap)) throw portTaken(request, conflict);
    await store.dropClaim(bridge, claim.ip);
    log.warn('took the ports of a VM that is gone', { vm: request.vm, gone: claim.vm, bridge });
  }
}

async function useBridge(
  host: ManagedHost,
  network: ManagedNetwork,
  waiting: Waiting,
): Promise<ReadyBridge> {
  const { bridge, address, prefix } = network;
  const { netlink, store, log } = host;
  const records = (await store.networks()).map(({ record }) => record);
  const other = overlappingNetwork(network, records);
  if (other !== undefined) {
    const its = `${other.bridge} (${other.address}/${other.prefix})`;
    throw new NetError('bridge', `network ${bridge} (${address}/${prefix}) overlaps ${its}`);
  }
  const plan = await inspectBridge(netlink, network, waiting);
  const owned = plan !== 'foreign';
  if (!owned) log.info('using a bridge that was there', { bridge, address });
  const { hostAccess = 'closed' } = network;
  await store.keepRecord({ bridge, address, prefix, owned, hostAccess });
  const ready = await applyBridge(netlink, network, plan, { log, ...waiting });
  if (plan === 'create') await warnOfDroppers(host, bridge, waiting);
  // A bridge that had to be made again gets its running VMs back.
  const claims = plan === 'create' ? await store.claims(bridge) : [];
  for (const claim of claims) await replugTap(claim, { ...host, bridge: ready.link }, waiting);
  return ready;
}

async function warnOfDroppers(
  { rules, log }: Pick<ManagedHost, 'rules' | 'log'>,
  bridge: string,
  waiting: Waiting,
): Promise<void> {
  const chains = await rules.forwardDroppers(waiting);
  if (chains.length === 0) return;
  const advice = `let them accept what comes from and goes to ${bridge}`;
  log.warn('other firewall rules drop forwarded packets', { bridge, chains, advice });
}

function checkLoopback({ vm, bridge, ports }: NicRequest, { owned }: ReadyBridge): void {
  if (owned || !wantsLoopback(ports)) return;
  const settings = [bridge, 'all'].map((name) => `net/ipv4/conf/${name}/route_localnet`);
  if (settings.some((name) => readSysctl(name) === '1')) return;
  throw new NetError(
    'rules',
    `VM ${vm}: ports on loopback addresses need net.ipv4.conf.${bridge}.route_localnet=1, ` +
      `which is left to whoever made bridge ${bridge}`,
  );
}

/** Addresses on a bridge of somebody else's that were seen in use, which his own DHCP server may have given. */
async function neighbours(
  netlink: NetlinkSocket,
  bridge: Link,
  waiting: Waiting,
): Promise<ReadonlySet<string>> {
  const known = await listNeighbours(netlink, waiting);
  const here = known.filter(({ linkIndex }) => linkIndex === bridge.index);
  return new Set(here.map(({ address }) => address));
}
