import type { Logger } from '#host';
import { listAddresses, type NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import type { ReadyBridge } from '../links/bridge.ts';
import { NetError } from '../model/error.ts';
import type { NicRequest } from '../model/nic.ts';
import { readSysctl } from '../model/sysctl.ts';
import { endStaleFlows } from '../rules/stale-flows.ts';
import type { Claim } from '../store/claim.ts';
import type { NetworkStore } from '../store/store.ts';
import { isListenedOn } from './host-port.ts';
import {
  checkPorts,
  findConflicts,
  portListenedOn,
  portTaken,
  wantsLoopback,
} from './plan-ports.ts';

/** Refuses ports that can't be mapped or are in use. `links` are the names of all links. The caller holds the lock. */
export async function securePorts(
  request: NicRequest,
  { store, log }: { readonly store: NetworkStore; readonly log: Logger },
  links: ReadonlySet<string>,
): Promise<void> {
  checkPorts(request);
  const listened = await Promise.all(request.ports.map(isListenedOn));
  const busy = request.ports.find((_, index) => listened[index]);
  if (busy !== undefined) throw portListenedOn(request, busy);
  for (const conflict of findConflicts(request, await store.networks())) {
    const { bridge, claim } = conflict;
    // A tap lives exactly as long as its VM, and while the lock is held every claim already has its tap. The undo steps
    // of the dead VM stay safe to run.
    if (links.has(claim.tap)) throw portTaken(request, conflict);
    await store.dropClaim(bridge, claim.ip);
    log.warn('took the ports of a VM that is gone', { vm: request.vm, gone: claim.vm, bridge });
  }
}

/** Ports on loopback addresses need a setting of the bridge that the driver makes on its own bridges only. */
export function checkLoopback(
  { vm, bridge, ports }: NicRequest,
  { owned }: Pick<ReadyBridge, 'owned'>,
): void {
  if (owned || !wantsLoopback(ports)) return;
  const settings = [bridge, 'all'].map((name) => `net/ipv4/conf/${name}/route_localnet`);
  if (settings.some((name) => readSysctl(name) === '1')) return;
  throw new NetError(
    'host',
    `VM ${vm}: ports on loopback addresses need net.ipv4.conf.${bridge}.route_localnet=1, ` +
      `which the driver does not set on a bridge that it did not make (${bridge})`,
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
