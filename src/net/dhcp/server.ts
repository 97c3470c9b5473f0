import { createSocket, type Socket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { type Logger, udpSocket } from '#host';
import { adoptDatagrams, closeSocket } from '../links/adopt-socket.ts';
import { netError } from '../model/error.ts';
import type { Claim } from '../store/claim.ts';
import type { KnownGuests } from '../store/known-guests.ts';
import { answer, type DhcpNetwork } from './answer.ts';
import { decodeQuery, encodeReply } from './message.ts';
import { inNetns } from './netns.ts';

export interface DhcpServerOptions {
  /** The link that queries come from. */
  readonly bridge: string;
  /** Path of the link's network namespace; this process's own when left out. */
  readonly netns?: string;
  readonly network: DhcpNetwork;
  /** The network's NICs by their MAC addresses. */
  readonly guests: Pick<KnownGuests<ReadonlyMap<string, Claim>>, 'get' | 'forget'>;
  readonly log: Logger;
}

const serverPort = 67;
const clientPort = 68;
// More than guests send at once in normal operation. The rest is dropped, and clients retransmit.
const maxPending = 64;

/**
 * The DHCP responder of one bridge: it answers clients whose MAC address has a claim and ignores all others. It
 * keeps no state, so two on the same bridge (an ending plugin and its successor) do not conflict.
 */
export class DhcpServer implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #options: DhcpServerOptions;
  #pending = 0;
  #closed = false;
  #failed = false;

  private constructor(socket: Socket, options: DhcpServerOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  static async open(options: DhcpServerOptions): Promise<DhcpServer> {
    const { bridge, netns, log } = options;
    const socket = createSocket('udp4');
    const server = new DhcpServer(socket, options);
    socket.on('message', (datagram) => void server.#receive(datagram));
    try {
      await bind(socket, bridge, netns);
    } catch (cause) {
      await server[Symbol.asyncDispose]();
      throw netError(`opening the DHCP port on bridge ${bridge} failed`, cause);
    }
    socket.on('error', (error) => {
      server.#failed = true;
      log.warn('DHCP socket failed', { bridge, error });
    });
    // A responder alone does not keep the plugin alive.
    socket.unref();
    log.info('DHCP responder started', { bridge, address: options.network.address });
    return server;
  }

  /** Whether its socket has failed. */
  get failed(): boolean {
    return this.#failed;
  }

  /** VMs have come or gone: the next query is answered from the files as they are then. */
  forget(): void {
    this.#options.guests.forget();
  }

  async #receive(datagram: Uint8Array): Promise<void> {
    if (this.#pending >= maxPending) return;
    this.#pending += 1;
    try {
      await this.#reply(datagram);
    } catch (error) {
      const { bridge, log } = this.#options;
      log.warn('answering a DHCP query failed', { bridge, error });
    } finally {
      this.#pending -= 1;
    }
  }

  async #reply(datagram: Uint8Array): Promise<void> {
    const query = decodeQuery(datagram);
    if (query === undefined) return;
    const claim = (await this.#options.guests.get()).get(query.mac);
    if (claim === undefined) return;
    const reply = answer(query, claim, this.#options.network);
    if (reply === undefined || this.#closed) return;
    // Sending by MAC address to a client that has no address yet needs a raw socket; RFC 2131, 4.1 allows a broadcast.
    const to = reply.clientAddress === '0.0.0.0' ? '255.255.255.255' : reply.clientAddress;
    await this.#send(encodeReply(reply), to);
    const { bridge, log } = this.#options;
    log.debug('DHCP reply', { bridge, vm: claim.vm, query: query.type, reply: reply.type });
  }

  #send(bytes: Uint8Array, to: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#socket.send(bytes, clientPort, to, (error) => (error ? reject(error) : resolve()));
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await closeSocket(this.#socket);
  }
}

async function bind(socket: Socket, bridge: string, netns?: string): Promise<void> {
  const options = { address: '0.0.0.0', port: serverPort, device: bridge, broadcast: true };
  await adoptDatagrams(
    socket,
    inNetns(netns, () => udpSocket(options)),
  );
}

/** Claims as a responder looks for them. */
export function byMac(claims: readonly Claim[]): ReadonlyMap<string, Claim> {
  return new Map(claims.map((claim) => [claim.mac, claim]));
}

/** How many sockets of any process in this network namespace have the DHCP port, dnsmasq's for example. */
export function dhcpSockets(): number {
  const port = serverPort.toString(16).toUpperCase().padStart(4, '0');
  const lines = readFileSync('/proc/self/net/udp', 'utf8').split('\n').slice(1);
  return lines.filter((line) => line.trim().split(/\s+/)[1]?.endsWith(`:${port}`)).length;
}
