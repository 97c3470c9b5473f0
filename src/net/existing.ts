import type { Logger, Waiting } from '#host';
import { type Link, listLinks, type NetlinkSocket } from '#netlink';
import type { AttachedNic } from './attached.ts';
import { NetError } from './error.ts';
import { type NicRequest, planNic } from './plan.ts';
import { plugTap } from './tap.ts';
import type { UndoWriter } from './undo.ts';

/**
 * Plugs a NIC into a bridge that somebody else made and looks after, if the operator allows it: a tap in it is all the
 * driver adds.
 */
export async function attachToExisting(
  request: NicRequest,
  host: {
    readonly netlink: NetlinkSocket;
    readonly undo: UndoWriter;
    readonly log: Logger;
    /** The bridges of others' that are allowed. */
    readonly bridges: readonly string[];
  },
  waiting: Waiting,
): Promise<AttachedNic> {
  const { vm, index, bridge } = request;
  const { netlink, undo, log, bridges } = host;
  refuseUnlisted(request, bridges);
  const links = await listLinks(netlink, waiting);
  const link = links.find(({ name }) => name === bridge);
  refuseUnusable(request, link);
  const plan = planNic(request, false, new Set(links.map(({ name }) => name)));
  const tapFd = await undo.perform({ kind: 'net-tap', tap: plan.tap, vm, index }, () =>
    plugTap(netlink, plan, { vm, index, bridge: link }, waiting),
  );
  log.info('tap joined bridge', { vm, tap: plan.tap, bridge });
  return { tapFd, tap: plan.tap, mac: plan.mac, bridge, mtu: link.mtu, notes: [] };
}

function refuseUnlisted({ vm, bridge }: NicRequest, allowed: readonly string[]): void {
  if (allowed.includes(bridge)) return;
  const others = allowed.length === 0 ? 'none' : allowed.join(', ');
  throw new NetError(
    'bridge',
    `VM ${vm}: bridge ${bridge} is not a managed network, and not among the other bridges that this agent ` +
      `allows (${others}): an operator allows it with bridges = ["${bridge}"] in the plugin's configuration`,
  );
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
    { recoverable: false },
  );
}
