import { isDeepStrictEqual } from 'node:util';
import { together } from '#host';
import { findLink, type Link, listLinks } from '#netlink';
import { type ManagedNetwork, parseAddress6, type Waiting } from '#spec';
import { addressesInUse } from '../links/addresses.ts';
import { openLoopback6, type ReadyBridge, uplinkMtu } from '../links/bridge.ts';
import { asHostHas } from '../links/host-ipv6.ts';
import {
  type ResolvedNetwork,
  replugAll,
  resolveNetwork,
  useBridge,
} from '../links/managed-bridge.ts';
import {
  type BridgedTapPlan,
  chooseMtu,
  planTap,
  refuseSmallerMtu,
  refuseTakenMac,
} from '../links/plan-tap.ts';
import {
  type AddressedNic,
  type BuiltNic,
  configureTap,
  openTapOf,
  plugTap,
  replugTap,
} from '../links/tap.ts';
import {
  type BridgeRequest,
  makeNicRecord,
  type NicAddress6,
  type NicRecord,
} from '../model/nic.ts';
import type { UndoWriter } from '../model/undo.ts';
import { type Claim, resolverConfig } from '../store/claim.ts';
import { ensureServers, type ManagedHost, rulesFreshMs } from './managed-host.ts';
import { planAddress } from './plan-address.ts';
import { gateway6, planAddress6 } from './plan-address6.ts';
import { checkFamily, wantsLoopback6 } from './plan-ports.ts';
import { checkLoopback, refusePublished, securePorts } from './ports.ts';
import { renewRules } from './repair.ts';

/** What a NIC is built with. */
interface NicParts {
  readonly host: ManagedHost;
  readonly configured: ManagedNetwork;
  readonly undo: UndoWriter;
}

/** A NIC that QEMU can be started with: its tap is open and nothing else is done. */
interface OpenNic {
  readonly request: BridgeRequest;
  readonly plan: BridgedTapPlan;
  readonly mtu: number;
}

/** A NIC that has its address, and is not yet connected. */
interface AddressedTap {
  readonly network: ResolvedNetwork;
  readonly bridge: ReadyBridge;
  readonly plan: BridgedTapPlan;
  readonly claim: Claim;
  readonly link: Link;
}

/**
 * Builds a NIC in a managed network, which is made when this is the first one in it. Only the tap exists when this returns.
 * The lock is released between the address and the rest: other builds see the claim and the tap, and rules that are made
 * meanwhile include it.
 */
export async function buildInManaged(
  request: BridgeRequest,
  parts: NicParts,
  waiting: Waiting,
): Promise<BuiltNic> {
  const { host, configured, undo } = parts;
  const { vm, index, bridge } = request;
  const links = await listLinks(host.netlink, waiting);
  const plan = { ...planTap(request, links), bridge, managed: true };
  const { tap, mac } = plan;
  const mtu = chooseMtu(request, await bridgeToBe(configured, { host, links }, waiting));
  // Undone last: the bridge goes with its last tap.
  await undo.perform({ kind: 'net-bridge', bridge }, async () => {});
  const fds = await undo.perform({ kind: 'net-tap', tap, vm, index }, () =>
    openTapOf(request, plan),
  );
  const claim = (limited: Waiting): Promise<AddressedNic> =>
    addressNic({ request, plan, mtu }, parts, limited);
  return { mac, mtu, backend: { kind: 'tap', fds, name: tap }, claim };
}

/** The bridge with the MTU that it is going to have. */
async function bridgeToBe(
  configured: ManagedNetwork,
  { host, links }: { readonly host: ManagedHost; readonly links: readonly Link[] },
  waiting: Waiting,
): Promise<Pick<Link, 'name' | 'mtu'>> {
  const { bridge: name } = configured;
  const link = links.find((each) => each.name === name);
  // Nothing is configured that the bridge could get.
  if (link !== undefined && configured.mtu === undefined) return link;
  const { mtu } = await resolveNetwork(configured, host);
  return { name, mtu: mtu ?? link?.mtu ?? (await uplinkMtu(host.netlink, waiting)) };
}

/** All that the guest's seed needs. */
async function addressNic(nic: OpenNic, parts: NicParts, waiting: Waiting): Promise<AddressedNic> {
  const { host } = parts;
  // nft lists all rules of the host for it, and they are not ours: no build has to wait, this one until it is plugged in.
  const hasIpv6 = asHostHas(parts.configured).address6 !== undefined;
  const published = refusePublished({ request: nic.request, hasIpv6 }, host, waiting);
  published.catch(() => {});
  await using _ = await host.store.lock(waiting);
  const addressed = await claimAddress(nic, parts, waiting);
  const { network, bridge, claim } = addressed;
  const { ip } = claim;
  const { address: gateway, prefix } = network;
  const six = addressing6(bridge, claim);
  const names = resolverConfig({ ...network, owned: bridge.owned });
  return {
    address: { ip, prefix, gateway, host: gateway, ...names, ...(six && { six }) },
    record: {
      kind: 'nic',
      ...makeNicRecord(nic.request, { ...nic.plan, ip, tapMtu: bridge.link.mtu }),
      kept: { claim, network: await host.store.record(nic.plan.bridge) },
    },
    plug: async (limited) => {
      await published;
      await connectNic(addressed, host, limited);
    },
  };
}

function addressing6({ address6 }: ReadyBridge, { ip6 }: Claim): NicAddress6 | undefined {
  const gateway = gateway6({ address6 });
  const prefix = parseAddress6(address6 ?? '')?.prefix;
  if (gateway === undefined || prefix === undefined || ip6 === undefined) return undefined;
  return { ip: ip6, prefix, gateway };
}

async function claimAddress(
  { request, plan, mtu }: OpenNic,
  { host, configured, undo }: NicParts,
  waiting: Waiting,
): Promise<AddressedTap> {
  const { vm, index, bridge: name, ports, hostname, dns, isDefaultRoute = true } = request;
  const { netlink, store } = host;
  const { tap, mac } = plan;
  const links = await listLinks(netlink, waiting);
  // Another VM may have come since the tap was opened.
  refuseTakenMac({ vm, index, mac }, links);
  await securePorts(request, { host, links: new Set(links.map((link) => link.name)) }, waiting);
  const network = await resolveNetwork(configured, host);
  const bridge = await useBridge(network, host, waiting);
  refuseSmallerMtu({ vm, mtu }, bridge.link);
  checkLoopback(request, bridge);
  const { address6 } = bridge;
  const place = { ...network, address6 };
  const claims = await store.claims(name);
  const avoid = await addressesInUse(netlink, { bridge: bridge.link, links }, waiting);
  const ip = planAddress(request, place, { claims, avoid });
  const ip6 = planAddress6(request, place, { ip, claims, avoid });
  checkFamily(request, ip6);
  // A bridge of an earlier version has no route for it.
  if (wantsLoopback6(ports)) await openLoopback6(netlink, bridge.link, waiting);
  const claim: Claim = {
    ip,
    ...(ip6 !== undefined && { ip6 }),
    vm,
    index,
    mac,
    tap,
    hostname,
    ports,
    dns,
    isDefaultRoute,
    mtu: request.mtu ?? (mtu < bridge.link.mtu ? mtu : undefined),
    tapMtu: bridge.link.mtu,
  };
  await undo.perform({ kind: 'net-claim', bridge: name, ip, vm, index }, () =>
    store.keepClaim(name, claim),
  );
  const owner = { vm, index, bridge: bridge.link, ip };
  // Once more, to be undone before the claim: the last one of a network takes along the bridge that the tap is in.
  const link = await undo.perform({ kind: 'net-tap', tap, vm, index }, () =>
    configureTap(netlink, plan, owner, waiting),
  );
  host.unplugged.add(tap);
  return { network, bridge, plan, claim, link };
}

/** All that the guest needs beside: its rules come before its tap joins the bridge. */
async function connectNic(nic: AddressedTap, host: ManagedHost, waiting: Waiting): Promise<void> {
  const { network, bridge, claim } = nic;
  await using _ = await host.store.lock(waiting);
  // What answers guests needs no rules: no guest is there before them.
  await together([host.rules.apply(waiting), ensureServers(host, network, bridge)]);
  host.redirects.add(claim);
  const { link } = bridge;
  try {
    await join(nic, bridge, host, waiting);
  } catch (error) {
    // Another agent that shares the bridge removes it with its last VM: it sees no tap of this NIC in there yet.
    if ((await findLink(host.netlink, link.name, waiting))?.index === link.index) throw error;
    const made = await useBridge(network, host, waiting);
    // The bridge is the driver's own now, and was perhaps not before.
    await host.rules.apply(waiting);
    await ensureServers(host, network, made);
    await join(nic, made, host, waiting);
  }
  const { vm, ip, tap } = claim;
  host.unplugged.delete(tap);
  host.log.info('tap joined bridge', { vm, tap, bridge: link.name, ip });
}

async function join(
  { plan, claim, link }: AddressedTap,
  bridge: ReadyBridge,
  host: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  const { vm, index, ip } = claim;
  await replugAll(bridge, host, waiting);
  await plugTap(host.netlink, { vm, index, bridge: bridge.link, ip, plan, link }, waiting);
}

/** Restores what a NIC needs, after a restart of the plugin or of another firewall. */
export async function adoptInManaged(
  nic: { readonly vm: string; readonly record: NicRecord },
  { host, wanted }: { readonly host: ManagedHost; readonly wanted: ManagedNetwork },
  waiting: Waiting,
): Promise<void> {
  const { bridge } = nic.record;
  const { store, rules } = host;
  await using _ = await store.lock(waiting);
  // Before anything that may fail: as long as rules are missing, nothing filters the guests.
  if (!rules.isFresh(rulesFreshMs)) await renewRules(host, waiting);
  const before = await store.record(bridge);
  const network = await resolveNetwork(wanted, host);
  const ready = await useBridge(network, host, waiting);
  // What guests may reach may be configured anew, and the bridge's owner may have changed.
  if (!isDeepStrictEqual(before, await store.record(bridge))) await rules.apply(waiting);
  await ensureServers(host, network, ready);
  await replugAll(ready, host, waiting);
  const tap = { vm: nic.vm, ...nic.record, managed: true };
  await replugTap(tap, { ...host, bridge: ready.link }, waiting);
}
