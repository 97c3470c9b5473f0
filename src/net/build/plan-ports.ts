import { isLoopback, type PortSpec, parseIpv4 } from '#spec';
import { NetError } from '../model/error.ts';
import type { BridgeRequest, NicRequest } from '../model/nic.ts';
import type { Claim, NetworkInUse } from '../store/claim.ts';

/** Refuses ports that can't be mapped on any host. */
export function checkPorts({ vm, bridge, ports }: BridgeRequest): void {
  for (const [at, port] of ports.entries()) {
    const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
    if (port.hostIp !== '' && parseIpv4(port.hostIp) === undefined) {
      throw refusal(`${what}: bridge ${bridge} has IPv4 only`);
    }
    if (ports.slice(0, at).some((other) => overlaps(port, other))) {
      throw refusal(`${what}: requested twice`);
    }
  }
}

function refusal(message: string): NetError {
  return new NetError('job', message);
}

/** Another NIC that has one of the requested ports. */
export interface PortConflict {
  readonly bridge: string;
  readonly claim: Claim;
  readonly port: PortSpec;
}

/** Every other NIC, in any network, that has a port of this request. */
export function findConflicts(
  request: Pick<NicRequest, 'vm' | 'index' | 'ports'>,
  networks: readonly NetworkInUse[],
): readonly PortConflict[] {
  return networks.flatMap(({ record: { bridge }, claims }) =>
    claims.flatMap((claim) => {
      if (claim.vm === request.vm && claim.index === request.index) return [];
      const port = request.ports.find((own) => claim.ports.some((other) => overlaps(own, other)));
      return port === undefined ? [] : [{ bridge, claim, port }];
    }),
  );
}

export function portTaken({ vm }: NicRequest, { port, claim }: PortConflict): NetError {
  const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
  return new NetError('host', `${what} is already mapped to VM ${claim.vm}`);
}

export function portListenedOn({ vm }: NicRequest, port: PortSpec): NetError {
  const what = `VM ${vm}: port ${port.label} on ${where(port)}`;
  return new NetError(
    'host',
    `${what} can't be mapped: a program of this host listens there already`,
  );
}

export function where({ hostIp, hostPort }: PortSpec): string {
  return `${hostIp === '' ? '*' : hostIp}:${hostPort}`;
}

/** Whether any of the ports is reachable at a loopback address only. */
export function wantsLoopback(ports: readonly PortSpec[]): boolean {
  return ports.some(({ hostIp }) => isLoopback(parseIpv4(hostIp) ?? 0));
}

function overlaps(one: PortSpec, other: PortSpec): boolean {
  if (one.hostPort !== other.hostPort) return false;
  return one.hostIp === other.hostIp || one.hostIp === '' || other.hostIp === '';
}
