import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import type { PortSpec } from '#spec';

/**
 * Whether something on this host has the port already, over TCP or UDP: a published port would take it away. Ports that
 * are published are no sockets, so other VMs' don't show here. A socket that only happens to send from the port counts
 * as well, for as long as it is there.
 */
export async function isListenedOn(port: Pick<PortSpec, 'hostIp' | 'hostPort'>): Promise<boolean> {
  const address = port.hostIp === '' ? '0.0.0.0' : port.hostIp;
  const outcomes = await Promise.all([
    tryTcp(address, port.hostPort),
    tryUdp(address, port.hostPort),
  ]);
  // Anything else says nothing about the port. Above all EADDRNOTAVAIL: the address may be one that this host only
  // routes to guests, or gets when it becomes the master of a pair.
  return outcomes.includes('EADDRINUSE');
}

/** The name of the error, or undefined when binding worked. */
function tryTcp(address: string, port: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const server = createServer((stranger) => stranger.destroy());
  server.once('error', (error) => resolve(codeOf(error)));
  server.listen({ host: address, port, exclusive: true }, () =>
    server.close(() => resolve(undefined)),
  );
  return promise;
}

function tryUdp(address: string, port: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const socket = createSocket('udp4');
  socket.once('error', (error) => socket.close(() => resolve(codeOf(error))));
  socket.bind({ address, port, exclusive: true }, () => socket.close(() => resolve(undefined)));
  return promise;
}

function codeOf(error: Error): string {
  return 'code' in error ? String(error.code) : error.message;
}
