import { setImmediate as immediate } from 'node:timers/promises';
import { errnoOf, tryBind } from '#host';
import { type PortSpec, type Protocol, protocolsOf } from '#spec';

type HostPort = Pick<PortSpec, 'hostIp' | 'hostPort' | 'protocol'>;

/** That are looked at in one turn of the event loop: a job may have thousands. */
const portsInTurn = 64;

/**
 * The first port that a program of this host has: publishing it would take it away. Published ports are no sockets, so other
 * VMs' do not show here. A socket that sends from the port over UDP counts as well while it exists.
 */
export async function findListenedOn<P extends HostPort>(
  ports: readonly P[],
): Promise<P | undefined> {
  for (const [at, port] of ports.entries()) {
    if (isListenedOn(port)) return port;
    if ((at + 1) % portsInTurn === 0) await immediate();
  }
  return undefined;
}

function isListenedOn(port: HostPort): boolean {
  const addresses = port.hostIp === '' ? ['0.0.0.0', '::'] : [port.hostIp];
  return addresses.some((address) =>
    protocolsOf(port).some((protocol) => isTaken(protocol, address, port.hostPort)),
  );
}

function isTaken(protocol: Protocol, address: string, port: number): boolean {
  try {
    tryBind(protocol, address, port);
    return false;
  } catch (error) {
    // Other errors do not concern the port. In particular EADDRNOTAVAIL: the host may only route the address to guests, or
    // get it when it becomes the master of a pair. Nor does a host without IPv6.
    return errnoOf(error) === 'EADDRINUSE';
  }
}
