import type { Logger } from '#host';
import { listAddresses, type NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import type { ReadyBridge } from '../links/bridge.ts';
import { bridgeNetfilter6, dropsLoopback6 } from '../links/host-ipv6.ts';
import { NetError } from '../model/error.ts';
import type { BridgeRequest, NicRequest } from '../model/nic.ts';
import { readSysctl } from '../model/sysctl.ts';
import type { PublishedElsewhere } from '../rules/published-rule.ts';
import { endStaleFlows } from '../rules/stale-flows.ts';
import type { Claim } from '../store/claim.ts';
import { findListenedOn } from './host-port.ts';
import { forgetGuests, type ManagedHost } from './managed-host.ts';
import {
  checkPorts,
  findConflicts,
  findPublisher,
  type PortConflict,
  portListenedOn,
  portPublished,
  portTaken,
  wantsLoopback,
  wantsLoopback6,
} from './plan-ports.ts';
import { forgetAddress } from './teardown.ts';

/**
 * Refuses ports that can't be mapped or are in use; those of VMs that are gone become free. `links` are the names of all
 * links. The caller holds the lock.
 */
export async function securePorts(
  request: BridgeRequest,
  { host, links }: { readonly host: ManagedHost; readonly links: ReadonlySet<string> },
  waiting: Waiting,
): Promise<void> {
  checkPorts(request);
  const busy = await findListenedOn(request.ports);
  if (busy !== undefined) throw portListenedOn(request, busy);
  const conflicts = findConflicts(request, await host.store.networks());
  // A tap lives exactly as long as its VM, and while the lock is held every claim already has its tap. The undo steps
  // of the dead VM stay safe to run.
  const taken = conflicts.find(({ claim }) => links.has(claim.tap));
  if (taken !== undefined) throw portTaken(request, taken);
  if (conflicts.length > 0) await dropGone(conflicts, { host, vm: request.vm }, waiting);
}

/**
 * Refuses a port that rules of another program or agent lead elsewhere: the first rule that translates a packet wins. Ports
 * at every address are at those of IPv6 where the guest has it.
 */
export async function refusePublished(
  { request, hasIpv6 }: { readonly request: NicRequest; readonly hasIpv6: boolean },
  host: Pick<ManagedHost, 'netlink' | 'rules' | 'warnOnce'>,
  waiting: Waiting,
): Promise<void> {
  if (request.ports.length === 0) return;
  const published = await publishedElsewhere(host, waiting);
  if (published.length === 0) return;
  const all = (await listAddresses(host.netlink, waiting)).map(({ address }) => address);
  const local = all.filter((address) => hasIpv6 || !address.includes(':'));
  const taken = findPublisher(request.ports, published, local);
  if (taken !== undefined) throw portPublished(request, taken);
}

/** None where they can't be read, which is logged. */
export async function publishedElsewhere(
  { rules, warnOnce }: Pick<ManagedHost, 'rules' | 'warnOnce'>,
  waiting: Waiting,
): Promise<readonly PublishedElsewhere[]> {
  try {
    return await rules.publishedElsewhere(waiting);
  } catch (error) {
    waiting.signal.throwIfAborted();
    warnOnce.warn('ports that other programs publish could not be read', { error });
    return [];
  }
}

async function dropGone(
  conflicts: readonly PortConflict[],
  { host, vm }: { readonly host: ManagedHost; readonly vm: string },
  waiting: Waiting,
): Promise<void> {
  const { store, rules, log } = host;
  for (const { bridge, claim } of conflicts) {
    await store.dropClaim(bridge, claim.ip);
    forgetGuests(host, bridge);
    log.warn('took the ports of a VM that is gone', { vm, gone: claim.vm, bridge });
  }
  // A connection that is ended before its rules are would be made again by its next packet.
  await rules.apply(waiting);
  for (const { bridge, claim } of conflicts) {
    await forgetAddress({ bridge, ...claim }, host, waiting);
  }
}

/** Ports on loopback addresses need settings of the bridge that the driver makes on its own bridges only. */
export function checkLoopback(
  { vm, bridge, ports }: BridgeRequest,
  { owned }: Pick<ReadyBridge, 'owned'>,
): void {
  if (wantsLoopback6(ports)) checkLoopback6({ vm, bridge, owned });
  if (owned || !wantsLoopback(ports)) return;
  const settings = [bridge, 'all'].map((name) => `net/ipv4/conf/${name}/route_localnet`);
  if (settings.some((name) => readSysctl(name) === '1')) return;
  throw new NetError(
    'host',
    `VM ${vm}: ports on loopback addresses need net.ipv4.conf.${bridge}.route_localnet=1, ` +
      `which the driver does not set on a bridge that it did not make (${bridge})`,
  );
}

function checkLoopback6({
  vm,
  bridge,
  owned,
}: Pick<BridgeRequest, 'vm' | 'bridge'> & Pick<ReadyBridge, 'owned'>): void {
  const what = `VM ${vm}: ports on ::1`;
  if (!owned) {
    throw new NetError(
      'host',
      `${what} need a bridge of the driver's own (not ${bridge}): use 127.0.0.1`,
    );
  }
  if (!dropsLoopback6()) return;
  throw new NetError(
    'host',
    `${what} need ${bridgeNetfilter6}=0, or the kernel drops the replies: use 127.0.0.1`,
  );
}

/** Ends connections to published ports that are older than their rules, so that the next packet reaches the guest. */
export async function redirectFlows(
  claims: readonly Claim[],
  { netlink, log }: { readonly netlink: NetlinkSocket; readonly log: Logger },
  waiting: Waiting,
): Promise<void> {
  if (claims.every(({ ports }) => ports.length === 0)) return;
  const own = await listAddresses(netlink, waiting);
  const local = new Set(own.map(({ address }) => address));
  await endStaleFlows(claims, local, { log, ...waiting });
}
