import type { Logger } from '#host';
import { type Link, listLinks, type NetlinkSocket } from '#netlink';
import type { Waiting } from '#spec';
import { makeMacvtap } from '../links/macvtap.ts';
import { chooseMtu, planTap } from '../links/plan-tap.ts';
import type { BuiltNic } from '../links/tap.ts';
import { NetError } from '../model/error.ts';
import type { MacvtapRequest } from '../model/nic.ts';
import type { UndoWriter } from '../model/undo.ts';
import { deviceProblem } from './allowed.ts';
import { jobAddress, refuseTakenAddress } from './job-address.ts';

/** Builds a NIC directly on a device of the host, if the operator allows it. The guest has its address from that network, or from the job. */
export async function buildMacvtap(
  request: MacvtapRequest,
  host: {
    readonly netlink: NetlinkSocket;
    readonly undo: UndoWriter;
    readonly log: Logger;
    /** The devices that are allowed. */
    readonly devices: readonly string[];
  },
  waiting: Waiting,
): Promise<BuiltNic> {
  const { vm, index, device, mode } = request;
  const { netlink, undo, log, devices } = host;
  refuseUnlisted(request, devices);
  const links = await listLinks(netlink, waiting);
  const lower = links.find(({ name }) => name === device);
  refuseUnusable(request, lower);
  const mtu = chooseMtu(request, lower);
  const { tap: name, mac, queues } = planTap(request, links);
  const { ip, ip6 } = request;
  const beside = links.filter((link) => link.lower === lower.index);
  refuseTakenAddress(request, `device ${device}`, beside);
  const addresses = { ...(ip !== undefined && { ip }), ...(ip6 !== undefined && { ip6 }) };
  const address = jobAddress(request);
  const reached = ip ?? ip6;
  const own = mode === 'passthrough' && request.mac === undefined ? {} : { mac };
  const { fds, link } = await undo.perform({ kind: 'net-macvtap', link: name, vm, index }, () =>
    makeMacvtap(netlink, { vm, index, name, mode, queues, ...addresses, ...own }, lower, waiting),
  );
  log.info('macvtap made', { vm, link: name, device, mode });
  return {
    mac: link.address,
    mtu,
    backend: { kind: 'tap', fds, name },
    ...(address !== undefined && { address }),
    record: {
      kind: 'macvtap-nic',
      link: name,
      mac: link.address,
      device,
      mode,
      ...(reached !== undefined && { ip: reached }),
    },
  };
}

function refuseUnlisted({ vm, device }: MacvtapRequest, devices: readonly string[]): void {
  const problem = deviceProblem(device, { devices });
  if (problem !== undefined) throw new NetError('host', `VM ${vm}: ${problem}`);
}

function refuseUnusable(
  { vm, device }: MacvtapRequest,
  lower: Link | undefined,
): asserts lower is Link {
  if (lower === undefined) {
    throw new NetError('host', `VM ${vm}: device ${device} does not exist on this host`);
  }
  if (lower.master !== undefined) {
    throw new NetError(
      'host',
      `VM ${vm}: device ${device} is in a bridge or bond, which gets its frames: use that one instead`,
    );
  }
  if (lower.up) return;
  throw new NetError('host', `VM ${vm}: device ${device} is down: ip link set ${device} up`);
}
