import { type PortSpec, parseIpv4, userAddress, type Waiting } from '#spec';
import type { BuiltNic } from '../links/tap.ts';
import { NetError } from '../model/error.ts';
import { nicMac } from '../model/names.ts';
import { portMapOf, type UserRequest } from '../model/nic.ts';
import { readSysctl } from '../model/sysctl.ts';
import { findListenedOn } from './host-port.ts';
import type { ManagedHost } from './managed-host.ts';
import { findConflicts, portListenedOn, portTaken, where } from './plan-ports.ts';
import { refusePublished } from './ports.ts';

/** The addresses of QEMU's user-mode network: the same in every VM, and of no meaning outside of it. */
const address = {
  ip: userAddress,
  prefix: 24,
  gateway: '10.0.2.2',
  nameservers: [],
  searches: [],
} as const;

/** Of libslirp, which QEMU does not let set (net/slirp.c). */
const maxMtu = 1500;

/**
 * Builds a NIC in QEMU's user-mode network. There is nothing to make on the host, and so nothing to undo: QEMU itself
 * listens on the ports. Those that it could not get are reported here, before it starts.
 */
export async function buildUserMode(
  request: UserRequest,
  host: Pick<ManagedHost, 'store' | 'netlink' | 'rules' | 'warnOnce'>,
  waiting: Waiting,
): Promise<BuiltNic> {
  const { vm, index, ports } = request;
  if ((request.mtu ?? 0) > maxMtu) {
    throw new NetError(
      'job',
      `VM ${vm}: mtu ${request.mtu}: the user-mode network carries ${maxMtu} bytes`,
    );
  }
  for (const port of ports) refuseUnusable(request, port);
  const busy = await findListenedOn(ports);
  if (busy !== undefined) throw portListenedOn(request, busy);
  // A published port is translated before any socket of the host can receive.
  const [conflict] = findConflicts(request, await host.store.networks());
  if (conflict !== undefined) throw portTaken(request, conflict);
  await refusePublished({ request, hasIpv6: false }, host, waiting);
  const { mac = nicMac(vm, index), mtu = maxMtu } = request;
  return {
    mac,
    mtu,
    backend: { kind: 'user', ports },
    address,
    record: { kind: 'user-nic', mac, portMap: portMapOf(ports) },
  };
}

function refuseUnusable({ vm }: UserRequest, port: PortSpec): void {
  const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
  if (port.hostIp !== '' && parseIpv4(port.hostIp) === undefined) {
    throw new NetError('job', `${what}: QEMU's user-mode network has IPv4 only`);
  }
  const first = Number(readSysctl('net/ipv4/ip_unprivileged_port_start') ?? 1024);
  if (port.hostPort >= first) return;
  throw new NetError(
    'host',
    `${what}: QEMU listens there itself, without privileges, and this host reserves ports below ${first}: ` +
      `use a higher port, a bridge, or lower net.ipv4.ip_unprivileged_port_start`,
  );
}
