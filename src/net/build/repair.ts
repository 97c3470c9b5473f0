import { type Link, listAddresses, listLinks } from '#netlink';
import type { Waiting } from '#spec';
import { linkLocalAddress } from '../links/bridge.ts';
import { changedOfBridge } from '../links/bridge-settings.ts';
import { forward, forward6 } from '../links/forwarding.ts';
import { asHostHas, bridgeNetfilter6, dropsLoopback6 } from '../links/host-ipv6.ts';
import { replugAll, useBridge } from '../links/managed-bridge.ts';
import { renamedBridge } from '../links/plan-bridge.ts';
import { replugTap } from '../links/tap.ts';
import { changedOfTap, isOutside } from '../links/tap-settings.ts';
import { inTurn } from '../model/in-turn.ts';
import type { Claim, NetworkInUse, NetworkRecord } from '../store/claim.ts';
import type { NetworkStore } from '../store/store.ts';
import { reportContested } from './contested.ts';
import { ensureServers, type ManagedHost } from './managed-host.ts';
import { gateway6 } from './plan-address6.ts';
import { wantsLoopback6 } from './plan-ports.ts';
import { redirectFlows } from './ports.ts';

/** A network in use with those of its claims whose tap is not in the bridge, or is down or was changed there. */
interface IncompleteNetwork extends NetworkInUse {
  /** What was done to the bridge itself. */
  readonly damage: string | undefined;
}

/** Puts back what running VMs lack, and reports what they can not have. */
export async function lookAfterNetworks(host: ManagedHost, waiting: Waiting): Promise<void> {
  const networks = await networksWithVms(host.store);
  if (networks.length === 0) return;
  await inTurn([
    () => restoreNetworks(networks, host, waiting),
    // After the rules, which filter what is forwarded.
    () => restoreForwarding(networks, host),
    async () => reportLoopback6(networks, host),
    () => reportContested(networks, host, waiting),
  ]);
}

/**
 * Puts back the rules and bridges of running VMs that were removed from the host, and their taps into the bridges. Cheap
 * when nothing is missing.
 */
async function restoreNetworks(
  found: readonly NetworkInUse[],
  host: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  const { store, rules } = host;
  const isComplete = (await incomplete(found, host, waiting)).length === 0;
  if (isComplete && (await rules.look(waiting)) === 'whole') return;
  await using _ = await store.lock(waiting);
  // The previous holder of the lock may have ended the last VM.
  const networks = await networksWithVms(store);
  if (networks.length === 0) return;
  // Also when they are there: a tap may be outside its bridge because its rules could not be made.
  await renewRules(host, waiting);
  const lacking = await incomplete(networks, host, waiting);
  await inTurn(lacking.map((network) => () => completeNetwork(network, host, waiting)));
}

/** `sysctl --system` and the like may set what the operator's files have. */
async function restoreForwarding(
  networks: readonly NetworkInUse[],
  host: ManagedHost,
): Promise<void> {
  const { log, onEvent } = host;
  const report = (claims: readonly Claim[], family: string): void => {
    for (const vm of vmsOf(joined(claims, host))) {
      onEvent(vm, `${family} forwarding of the host was off and was turned on again`);
    }
  };
  const claimsOf = (some: readonly NetworkInUse[]) => some.flatMap(({ claims }) => claims);
  const six = networks.filter(({ record }) => gateway6(asHostHas(record)) !== undefined);
  if (await forward(log)) report(claimsOf(networks), 'IPv4');
  if (six.length > 0 && (await forward6(log))) report(claimsOf(six), 'IPv6');
}

/** Docker and Kubernetes turn on what keeps ports at ::1 from answering, and need it. */
function reportLoopback6(networks: readonly NetworkInUse[], host: ManagedHost): void {
  if (!dropsLoopback6()) return;
  const { warnOnce, onEvent } = host;
  const claims = joined(
    networks.flatMap((network) => network.claims),
    host,
  );
  for (const vm of vmsOf(claims.filter(({ ports }) => wantsLoopback6(ports)))) {
    const setting = `${bridgeNetfilter6}=1`;
    if (!warnOnce.warn('ports at ::1 do not answer', { vm, setting })) continue;
    onEvent(vm, `Ports at ::1 do not answer with ${setting}: set it to 0, or use 127.0.0.1`);
  }
}

/** Applies the rules; where they were missing, also ends the connections made without them. The caller holds the lock. */
export async function renewRules(host: ManagedHost, waiting: Waiting): Promise<void> {
  const { store, rules, log, onEvent } = host;
  if (await isAwaited(host, waiting)) return;
  if (!(await rules.renew(waiting))) return;
  const all = (await store.networks()).flatMap((network) => network.claims);
  const claims = joined(all, host);
  // Those of the first VM are not missed before it has joined its bridge.
  if (claims.length === 0) return;
  log.warn('firewall rules of the VMs were gone and were put back', { nics: claims.length });
  for (const vm of vmsOf(claims)) onEvent(vm, 'Firewall rules were gone and were put back');
  await redirectFlows(claims, host, waiting);
}

/**
 * Whether the rules are whole, and some are those of a running VM whose claim is lost: it gets that back once it is adopted,
 * and rules made before that would leave its guest unfiltered.
 */
async function isAwaited(
  { store, rules, netlink }: ManagedHost,
  waiting: Waiting,
): Promise<boolean> {
  const ruled = await rules.taps(waiting);
  const claims = (await store.networks()).flatMap((network) => network.claims);
  const claimed = new Set(claims.map(({ tap }) => tap));
  if ([...claimed].some((tap) => !ruled.has(tap)) || ruled.size === claimed.size) return false;
  const links = await listLinks(netlink, waiting);
  const isLost = ({ name }: Link): boolean => ruled.has(name) && !claimed.has(name);
  return links.some(isLost) && (await rules.look(waiting)) === 'whole';
}

async function completeNetwork(
  { record, claims, damage }: IncompleteNetwork,
  host: ManagedHost,
  waiting: Waiting,
): Promise<void> {
  const { store, log, onEvent } = host;
  const { owned: _owned, ...network } = asHostHas(record);
  const ready = await useBridge(network, host, waiting);
  await ensureServers(host, network, ready);
  await replugAll(ready, host, waiting);
  for (const claim of claims) {
    await replugTap({ ...claim, managed: true }, { ...host, bridge: ready.link }, waiting);
  }
  if (damage === undefined) return;
  log.warn(`bridge of running VMs was ${damage} and was put back`, { bridge: record.bridge });
  for (const vm of vmsOf(joined(await store.claims(record.bridge), host))) {
    onEvent(vm, `Bridge ${record.bridge} was ${damage} and was put back`);
  }
}

/** Without those of NICs that are being built. */
export function joined(
  claims: readonly Claim[],
  { unplugged }: Pick<ManagedHost, 'unplugged'>,
): readonly Claim[] {
  return claims.filter(({ tap }) => !unplugged.has(tap));
}

function vmsOf(claims: readonly Claim[]): ReadonlySet<string> {
  return new Set(claims.map(({ vm }) => vm));
}

/**
 * Networks of VMs that lack a tap in their bridge and, where that is the driver's, the bridge or its address, or what either
 * is set to: network managers flush a link that they do not know, `sysctl --system` sets what the operator's files have, and
 * an interrupted repair leaves taps outside.
 */
async function incomplete(
  networks: readonly NetworkInUse[],
  host: ManagedHost,
  waiting: Waiting,
): Promise<readonly IncompleteNetwork[]> {
  const { netlink } = host;
  const links = new Map((await listLinks(netlink, waiting)).map((link) => [link.name, link]));
  const addresses = await listAddresses(netlink, waiting);
  const found: IncompleteNetwork[] = [];
  for (const { record, claims } of networks) {
    const bridge = links.get(record.bridge);
    if (!record.owned && bridge === undefined) continue;
    const own = addresses.filter(({ linkIndex }) => linkIndex === bridge?.index);
    const wanted = addressesOf(asHostHas(record), bridge);
    const addressed = wanted.every((each) => own.some(({ address }) => address === each));
    const renamed = renamedBridge([...links.values()], record.bridge);
    const damage = record.owned
      ? await damageOf(bridge, record, { addressed, renamed })
      : undefined;
    const lost: Claim[] = [];
    for (const claim of joined(claims, host)) {
      const tap = links.get(claim.tap);
      const changed = await changedOfTap(tap, bridge, { ...claim, managed: true });
      if (changed.length > 0 || isOutside(tap, bridge)) lost.push(claim);
    }
    if (lost.length > 0 || damage !== undefined) found.push({ record, claims: lost, damage });
  }
  return found;
}

/** With IPv6 also that of the link: guests know their router by it. */
function addressesOf(record: NetworkRecord, bridge: Link | undefined): readonly string[] {
  const six = gateway6(record);
  if (six === undefined || bridge === undefined) return [record.address];
  return [record.address, six, linkLocalAddress(bridge)];
}

async function damageOf(
  bridge: Link | undefined,
  record: NetworkRecord,
  { addressed, renamed }: { readonly addressed: boolean; readonly renamed: Link | undefined },
): Promise<string | undefined> {
  if (bridge === undefined) return renamed === undefined ? 'gone' : `called ${renamed.name}`;
  if (!bridge.up) return 'down';
  if (!addressed) return 'without its address';
  const changed = await changedOfBridge(bridge, asHostHas(record));
  return changed.length === 0 ? undefined : `changed (${changed.join(', ')})`;
}

async function networksWithVms(store: NetworkStore): Promise<readonly NetworkInUse[]> {
  return (await store.networks()).filter(({ claims }) => claims.length > 0);
}
