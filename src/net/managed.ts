import { isDeepStrictEqual } from 'node:util';
import type { Waiting } from '#host';
import { findLink, listAddresses, listLinks } from '#netlink';
import type { ManagedNetwork } from '#spec';
import { addressesInUse, forgetNeighbour } from './addresses.ts';
import type { AdoptRecord, AttachedNic } from './attached.ts';
import { type ReadyBridge, removeBridge } from './bridge.ts';
import type { Claim } from './claim.ts';
import { NetError } from './error.ts';
import { forgetFlowsOf, forgetFlowsPast } from './flows.ts';
import { isListenedOn } from './host-port.ts';
import { type NetworkHost, settleNetwork, useBridge } from './network.ts';
import type { Rules } from './nft.ts';
import {
  checkPorts,
  findConflicts,
  type NicRequest,
  planAddress,
  planNic,
  portListenedOn,
  portTaken,
  wantsLoopback,
} from './plan.ts';
import type { Responders } from './responders.ts';
import type { NetworkStore } from './store.ts';
import { readSysctl } from './sysctl.ts';
import { plugTap, replugTap } from './tap.ts';
import type { NetUndo, UndoWriter } from './undo.ts';

/** What managed networks are made with; everything here is used under the store's lock. */
export interface ManagedHost extends NetworkHost {
  readonly rules: Rules;
  readonly responders: Responders;
}

// Adopting a hundred VMs one after the other must not rewrite the same rules a hundred times.
const rulesFreshMs = 5000;

/** Gives a NIC its place in a managed network, which is made when this is the first one in it. */
export async function attachToManaged(
  request: NicRequest,
  o: { host: ManagedHost; configured: ManagedNetwork; undo: UndoWriter },
  waiting: Waiting,
): Promise<AttachedNic> {
  const { vm, index, bridge, ports, hostname } = request;
  const { host, configured, undo } = o;
  const { netlink, store, rules, responders, log } = host;
  await using _ = await store.lock(waiting);
  const links = await listLinks(netlink, waiting);
  const taken = new Set(links.map(({ name }) => name));
  await securePorts(request, host, taken);
  const network = await settleNetwork(configured, host);
  const ready = await undo.perform({ kind: 'net-bridge', bridge }, () =>
    useBridge(network, host, waiting),
  );
  checkLoopback(request, ready);
  const ip = planAddress(request, network, {
    claims: await store.claims(bridge),
    avoid: await addressesInUse(netlink, { bridge: ready.link, links }, waiting),
  });
  const plan = planNic(request, true, taken);
  const claim: Claim = { ip, vm, index, mac: plan.mac, tap: plan.tap, hostname, ports };
  await undo.perform({ kind: 'net-claim', bridge, ip, vm, index }, async () => {
    await store.keepClaim(bridge, claim);
    await rules.apply(waiting);
    await redirect([claim], host, waiting);
  });
  await responders.ensure(network, ready);
  const tapFd = await undo.perform({ kind: 'net-tap', tap: plan.tap, vm, index }, () =>
    plugTap(netlink, plan, { vm, index, bridge: ready.link, ip }, waiting),
  );
  log.info('tap joined bridge', { vm, tap: plan.tap, bridge, ip });
  const { address: gateway, prefix, nameservers } = network;
  const address = { ip, prefix, gateway, nameservers };
  return { tapFd, tap: plan.tap, mac: plan.mac, bridge, mtu: ready.link.mtu, address, notes: [] };
}

/** Has everything there that a NIC needs, after a restart of the plugin or of somebody else's firewall. */
export async function adoptInManaged(
  nic: AdoptRecord,
  { host, wanted }: { host: ManagedHost; wanted: ManagedNetwork },
  waiting: Waiting,
): Promise<void> {
  const { bridge } = nic;
  const { store, rules, responders } = host;
  await using _ = await store.lock(waiting);
  // Before anything that may fail: as long as they are missing, guests are guarded by nothing.
  if (!rules.isFresh(rulesFreshMs)) await renewRules(host, waiting);
  const before = await store.record(bridge);
  const network = await settleNetwork(wanted, host);
  const ready = await useBridge(network, host, waiting);
  // What guests may reach may be configured anew, and who made the bridge may have changed.
  if (!isDeepStrictEqual(before, await store.record(bridge))) await rules.apply(waiting);
  await responders.ensure(network, ready);
  await replugTap({ ...nic, managed: true }, { ...host, bridge: ready.link }, waiting);
}

/** Puts the rules back when somebody took them away while there are VMs. Cheap when all is well. */
export async function restoreRules(host: ManagedHost, waiting: Waiting): Promise<void> {
  const { store, rules } = host;
  if ((await claimsIn(store)).length === 0 || !(await rules.gone(waiting))) return;
  await using _ = await store.lock(waiting);
  // Whoever held the lock may just have ended the last VM.
  if ((await claimsIn(store)).length > 0) await renewRules(host, waiting);
}

async function renewRules(host: ManagedHost, waiting: Waiting): Promise<void> {
  const { store, rules, log } = host;
  const gone = await rules.gone(waiting);
  await rules.apply(waiting);
  if (!gone) return;
  const claims = await claimsIn(store);
  log.warn('firewall rules of the VMs were gone and were put back', { nics: claims.length });
  await redirect(claims, host, waiting);
}

async function claimsIn(store: NetworkStore): Promise<readonly Claim[]> {
  return (await store.networks()).flatMap(({ claims }) => claims);
}

/**
 * Gives up a NIC's address and with it its ports, its DHCP answer, its leave to use the bridge and what the kernel
 * remembers of it.
 */
export async function dropClaim(
  { bridge, ip, vm, index }: Extract<NetUndo, { kind: 'net-claim' }>,
  { netlink, store, responders, rules, log }: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  await using _ = await store.lock(waiting);
  const claim = await store.claim(bridge, ip);
  const isOwn = claim?.vm === vm && claim.index === index;
  try {
    if (isOwn) await store.dropClaim(bridge, ip);
  } finally {
    responders.forget(bridge);
    // Also when the claim is gone already: an interrupted undo may have got no further than that.
    await rules.apply(waiting);
  }
  if (claim !== undefined && !isOwn) return;
  await forgetFlowsOf(ip, { log, ...waiting });
  const link = await findLink(netlink, bridge, waiting);
  if (link === undefined || claim === undefined) return;
  await forgetNeighbour(netlink, { bridge: link, ip, mac: claim.mac }, waiting);
}

/** Takes a network off the host when nobody is in it any more. */
export async function dropUnused(
  bridge: string,
  { netlink, store, responders, rules, log }: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  await using _ = await store.lock(waiting);
  const record = await store.record(bridge);
  if (record !== undefined && (await store.claims(bridge)).length > 0) return;
  await responders.stop(bridge);
  if (record?.owned) await removeBridge(netlink, bridge, { log, ...waiting });
  await store.dropNetwork(bridge);
  // Also without a record: a process that died after it had removed that got no further.
  await rules.apply(waiting);
}

/** Refuses ports that can't be had. */
async function securePorts(
  request: NicRequest,
  host: Pick<ManagedHost, 'store' | 'log'>,
  links: ReadonlySet<string>,
): Promise<void> {
  checkPorts(request);
  for (const port of request.ports) {
    if (await isListenedOn(port)) throw portListenedOn(request, port);
  }
  await clearPorts(request, host, links);
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

/** Connections to published ports that are older than their rules begin anew, and reach the guest. */
async function redirect(
  claims: readonly Claim[],
  { netlink, log }: Pick<ManagedHost, 'netlink' | 'log'>,
  waiting: Waiting,
): Promise<void> {
  if (claims.every(({ ports }) => ports.length === 0)) return;
  const own = await listAddresses(netlink, waiting);
  const local = new Set(own.map(({ address }) => address));
  await forgetFlowsPast(claims, local, { log, ...waiting });
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
