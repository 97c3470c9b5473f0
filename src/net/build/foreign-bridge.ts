import type { Logger } from '#host';
import { findLink, type Link, listLinks, type NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import { chooseMtu, planTap } from '../links/plan-tap.ts';
import { type BuiltNic, openNicTap, plugTap, replugTap } from '../links/tap.ts';
import { NetError } from '../model/error.ts';
import type { OnEvent } from '../model/net.ts';
import { type BridgeRequest, makeNicRecord, type NicRecord } from '../model/nic.ts';
import type { UndoWriter } from '../model/undo.ts';
import { type Allowed, bridgeProblem, named } from './allowed.ts';
import { jobAddress, refuseTakenAddress } from './job-address.ts';

/** Builds a NIC on a bridge that the driver neither makes nor manages, if the operator allows it: it adds only a tap. */
export async function buildOnForeignBridge(
  request: BridgeRequest,
  host: Pick<Allowed, 'bridges' | 'managed'> & {
    readonly netlink: NetlinkSocket;
    readonly undo: UndoWriter;
    readonly log: Logger;
  },
  waiting: Waiting,
): Promise<BuiltNic> {
  const { vm, index, bridge } = request;
  const { netlink, undo, log } = host;
  refuseUnlisted(request, host);
  const links = await listLinks(netlink, waiting);
  const link = links.find(({ name }) => name === bridge);
  refuseUnusable(request, link, host.managed);
  const plan = { ...planTap(request, links), bridge, managed: false };
  const { ip, ip6 } = request;
  const beside = links.filter(({ master }) => master === link.index);
  refuseTakenAddress(request, `bridge ${bridge}`, beside);
  const addresses = { ...(ip !== undefined && { ip }), ...(ip6 !== undefined && { ip6 }) };
  const nic = { vm, index, bridge: link, ...addresses };
  const address = jobAddress(request);
  const { tap, mac } = plan;
  const reached = ip ?? ip6;
  const mtu = chooseMtu(request, link);
  const opened = await undo.perform({ kind: 'net-tap', tap, vm, index }, () =>
    openNicTap(netlink, plan, nic, waiting),
  );
  return {
    mac,
    mtu,
    backend: { kind: 'tap', fds: opened.fds, name: tap },
    ...(address !== undefined && { address }),
    record: {
      kind: 'nic',
      ...makeNicRecord(request, {
        tap,
        mac,
        tapMtu: link.mtu,
        ...(reached !== undefined && { ip: reached }),
      }),
    },
    plug: async (limited) => {
      await plugTap(netlink, { ...nic, plan, link: opened.link }, limited);
      log.info('tap joined bridge', { vm, tap, bridge });
    },
  };
}

/** Puts the tap of a running VM back where it was taken out. */
export async function adoptOnForeignBridge(
  { vm, record }: { readonly vm: string; readonly record: NicRecord },
  host: { readonly netlink: NetlinkSocket; readonly log: Logger; readonly onEvent: OnEvent },
  waiting: Waiting,
): Promise<void> {
  const link = await findLink(host.netlink, record.bridge, waiting);
  if (link === undefined) return;
  await replugTap({ vm, ...record, managed: false }, { ...host, bridge: link }, waiting);
}

function refuseUnlisted(
  { vm, bridge }: BridgeRequest,
  allowed: Pick<Allowed, 'bridges' | 'managed'>,
): void {
  const problem = bridgeProblem(bridge, allowed);
  if (problem !== undefined) throw new NetError('host', `VM ${vm}: ${problem}`);
}

function refuseUnusable(
  request: BridgeRequest,
  link: Link | undefined,
  managed: readonly string[],
): asserts link is Link {
  const { vm, bridge, ip, ip6, fixed, fixed6, ports } = request;
  if (link === undefined) {
    throw new NetError(
      'host',
      `VM ${vm}: bridge ${bridge} does not exist on this host: make it, or use a managed network (there are: ` +
        `${named(managed)}), of which the driver makes the bridge`,
    );
  }
  if (link.kind !== 'bridge') {
    throw new NetError('host', `VM ${vm}: link ${bridge} is not a Linux bridge`);
  }
  if (ip !== undefined && fixed === undefined) {
    const what = `VM ${vm}: ip ${ip}: bridge ${bridge} is not a managed network`;
    throw new NetError('job', `${what}: add prefix, and gateway where there is one`);
  }
  if (ip6 !== undefined && fixed6 === undefined) {
    const what = `VM ${vm}: ip6 ${ip6}: bridge ${bridge} is not a managed network`;
    throw new NetError('job', `${what}: add prefix6, and gateway6 where there is one`);
  }
  if (ports.length === 0) return;
  const labels = ports.map(({ label }) => label).join(', ');
  throw new NetError(
    'job',
    `VM ${vm}: ports (${labels}) can't be mapped on bridge ${bridge}: the driver assigns no addresses there. ` +
      `Use a managed network, or reach the guest at the address it gets on that bridge`,
  );
}
