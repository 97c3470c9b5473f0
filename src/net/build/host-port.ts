import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { type PortSpec, protocolsOf } from '#spec';

/**
 * Whether a program of this host has the port: publishing it would take it away. Published ports are
 * no sockets, so other VMs' do not show here. A socket that sends from the port counts as well while it exists.
 */
export async function isListenedOn(
  port: Pick<PortSpec, 'hostIp' | 'hostPort' | 'protocol'>,
): Promise<boolean> {
  const address = port.hostIp === '' ? '0.0.0.0' : port.hostIp;
  const outcomes = await Promise.all(
    protocolsOf(port).map((protocol) => bind[protocol](address, port.hostPort)),
  );
  // Other errors do not concern the port. In particular EADDRNOTAVAIL: the host may only route the address to guests, or
  // get it when it becomes the master of a pair. Nor does a host without IPv6.
  return outcomes.includes('EADDRINUSE');
}

const bind = { tcp: tryTcp, udp: tryUdp } as const;

/** The name of the error, or undefined when binding worked. */
function tryTcp(address: string, port: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const server = createServer((client) => client.destroy());
  server.once('error', (error) => resolve(codeOf(error)));
  server.listen({ host: address, port, exclusive: true, ipv6Only: true }, () =>
    server.close(() => resolve(undefined)),
  );
  return promise;
}

function tryUdp(address: string, port: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const type = address.includes(':') ? 'udp6' : 'udp4';
  const socket = createSocket({ type, ipv6Only: type === 'udp6' });
  socket.once('error', (error) => socket.close(() => resolve(codeOf(error))));
  socket.bind({ address, port, exclusive: true }, () => socket.close(() => resolve(undefined)));
  return promise;
}

function codeOf(error: Error): string {
  return 'code' in error ? String(error.code) : error.message;
}
