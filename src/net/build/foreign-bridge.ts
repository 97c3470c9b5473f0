import type { Logger } from '#host';
import { type Link, listLinks, type NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import { planTap } from '../links/plan-tap.ts';
import { type BuiltNic, openNicTap, plugTap } from '../links/tap.ts';
import { NetError } from '../model/error.ts';
import { makeNicRecord, type NicRequest } from '../model/nic.ts';
import type { UndoWriter } from '../model/undo.ts';

/** Builds a NIC on a bridge that the driver neither makes nor manages, if the operator allows it: it adds only a tap. */
export async function buildOnForeignBridge(
  request: NicRequest,
  host: {
    readonly netlink: NetlinkSocket;
    readonly undo: UndoWriter;
    readonly log: Logger;
    /** The foreign bridges that are allowed. */
    readonly bridges: readonly string[];
  },
  waiting: Waiting,
): Promise<BuiltNic> {
  const { vm, index, bridge } = request;
  const { netlink, undo, log, bridges } = host;
  refuseUnlisted(request, bridges);
  const links = await listLinks(netlink, waiting);
  const link = links.find(({ name }) => name === bridge);
  refuseUnusable(request, link);
  const plan = planTap(request, false, new Set(links.map(({ name }) => name)));
  const nic = { vm, index, bridge: link };
  const { tap, mac } = plan;
  const { mtu } = link;
  const opened = await undo.perform({ kind: 'net-tap', tap, vm, index }, () =>
    openNicTap(netlink, plan, nic, waiting),
  );
  const plug = async (): Promise<void> => {
    await plugTap(netlink, { ...nic, plan, link: opened.link }, waiting);
    log.info('tap joined bridge', { vm, tap, bridge });
  };
  return {
    mac,
    mtu,
    backend: { kind: 'tap', fd: opened.fd, name: tap },
    record: makeNicRecord(request, { tap, mac }),
    plugged: plug(),
  };
}

function refuseUnlisted({ vm, bridge }: NicRequest, allowed: readonly string[]): void {
  if (allowed.includes(bridge)) return;
  const others = allowed.length === 0 ? 'none' : allowed.join(', ');
  throw new NetError(
    'host',
    `VM ${vm}: bridge ${bridge} is not a managed network, and not among the other bridges that this agent ` +
      `allows (${others}): an operator allows it with bridges = ["${bridge}"] in the plugin's configuration`,
  );
}

function refuseUnusable(request: NicRequest, link: Link | undefined): asserts link is Link {
  const { vm, bridge, ports } = request;
  if (link === undefined) {
    throw new NetError('host', `VM ${vm}: bridge ${bridge} does not exist and is not managed`);
  }
  if (link.kind !== 'bridge') {
    throw new NetError('host', `VM ${vm}: link ${bridge} is not a Linux bridge`);
  }
  if (ports.length === 0) return;
  const labels = ports.map(({ label }) => label).join(', ');
  throw new NetError(
    'job',
    `VM ${vm}: ports (${labels}) can't be mapped on bridge ${bridge}: the driver assigns no addresses there. ` +
      `Use a managed network, or reach the guest at the address it gets on that bridge`,
  );
}
